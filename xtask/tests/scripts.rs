// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every script has help in one format, and refuses what it does not know.

use std::fs;
use std::process::{Command, Output};

use xtask::paths;

/// The scripts: what they read has a name with an extension.
fn scripts() -> Vec<String> {
    let entries = fs::read_dir(paths::root().join("scripts")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.contains('.')).collect()
}

fn run(script: &str, words: &[&str]) -> Output {
    let mut command = Command::new(paths::root().join("scripts").join(script));
    command.args(words).env("PORTCULLIS_XTASK", env!("CARGO_BIN_EXE_xtask")).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_has_one_format() {
    let scripts = scripts();
    assert!(scripts.len() >= 12, "{scripts:?}");
    for script in &scripts {
        let output = run(script, &["--help"]);
        let help = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{script}: {}", text(&output.stderr));
        let mut lines = help.lines();
        let about = lines.next().unwrap_or_default();
        assert!(
            about.starts_with(char::is_uppercase) && !about.ends_with('.'),
            "{script}: {about}"
        );
        assert_eq!(lines.next(), Some(""), "{script}");
        let usage = lines.next().unwrap_or_default();
        assert!(usage.starts_with(&format!("Usage: ./scripts/{script} ")), "{script}: {usage}");
        assert!(help.contains("\nOptions:\n"), "{script}: {help}");
        let own = help.lines().find(|line| line.trim_start().starts_with("-h, --help "));
        assert!(own.is_some_and(|line| line.ends_with(" Print help")), "{script}: {help}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{script}: {help}");
        assert_eq!(text(&run(script, &["-h"]).stdout), help, "{script}");
    }
}

#[test]
fn an_unknown_option_is_refused_and_nothing_is_done() {
    for script in scripts() {
        let output = run(&script, &["--no-such-option"]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{script}: {error}");
        assert!(
            error.starts_with("error: unexpected argument '--no-such-option' found"),
            "{error}"
        );
        assert!(error.ends_with("For more information, try '--help'.\n"), "{script}: {error}");
        assert_eq!(text(&output.stdout), "", "{script}");
    }
}

#[test]
fn a_wrong_argument_is_refused_before_anything_is_built() {
    for (script, words) in [
        ("run", &["--gic", "4"][..]),
        ("run", &["windows"]),
        ("guests", &["windows"]),
        ("boards", &["toasters"]),
        ("bench", &["--check", "--save"]),
        ("build", &["--package", "vm"]),
        ("bundle", &["a.dts"]),
        ("test", &["a", "b"]),
        ("setup", &["lints"]),
        ("toolchains", &["gcc"]),
    ] {
        let output = run(script, words);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{script} {words:?}: {error}");
        assert!(error.starts_with("error: ") && error.contains("'--help'"), "{script}: {error}");
        assert_eq!(text(&output.stdout), "", "{script} {words:?}");
    }
}
