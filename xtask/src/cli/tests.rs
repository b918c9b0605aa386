// SPDX-License-Identifier: MIT OR Apache-2.0
use super::*;

fn refusal(words: &[&str]) -> clap::Error {
    let words = std::iter::once("xtask").chain(words.iter().copied()).map(OsString::from);
    parse(words).expect_err("it should be refused")
}

#[test]
fn the_description_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn what_is_misspelt_is_named_with_status_2() {
    for (words, name) in [
        (&["rnu"][..], "rnu"),
        (&["run", "--gci"], "--gci"),
        (&["run", "--gic", "4"], "2, 3"),
        (&["run", "--smp"], "--smp"),
        (&["run", "windows"], "linux-guarded"),
        (&["build", "--fast"], "--fast"),
        (&["symbolize", "--elv"], "--elf"),
        (&["test", "--slow"], "--slow"),
        (&["guests", "windows"], "linux-guarded"),
        (&["bundle", "--with"], "--with"),
        (&["bundle", "a.dts"], "--output"),
        (&["assure", "--short"], "--short"),
        (&["bench", "--check", "--save"], "--save"),
        (&["esr"], "<VALUE>"),
        (&["fuzz", "exits", "many"], "many"),
        (&["boards", "toasters"], "trees, qemu"),
        (&["board-check", "--all"], "--all"),
        (&["list", "--all"], "--all"),
    ] {
        let error = refusal(words);
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("'--help'"), "{words:?}: {text}");
        assert_eq!(error.exit_code(), 2, "{words:?}");
    }
}

#[test]
fn help_names_the_script_where_there_is_one() {
    let help = refusal(&["run", "--help"]);
    assert!(help.to_string().contains("Usage: ./scripts/run [OPTIONS]"), "{help}");
    assert_eq!(help.exit_code(), 0);
    let help = refusal(&["esr", "--help"]);
    assert!(help.to_string().contains("Usage: cargo xtask esr <VALUE>"), "{help}");
}

/// One format everywhere: no command has a longer text that only one of the two options shows.
#[test]
fn both_options_for_help_show_the_same() {
    for command in command().get_subcommands() {
        let name = command.get_name();
        let (short, long) = (refusal(&[name, "-h"]), refusal(&[name, "--help"]));
        assert_eq!(short.to_string(), long.to_string(), "{name}");
    }
}

#[test]
fn every_shell_has_completions_for_every_script() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut text = Vec::new();
        completions(shell, &mut text);
        let text = String::from_utf8(text).expect("completions are text");
        assert!(SCRIPTS.iter().all(|name| text.contains(&format!("scripts/{name}"))), "{shell}");
    }
}

#[test]
fn a_machine_without_cpus_or_memory_and_a_folder_as_a_guest_are_refused() {
    for (arguments, why) in [
        (["run", "--smp", "0"].as_slice(), "0 is not in 1.."),
        (&["run", "--mem", "0"], "a number of MiB above 0"),
        (&["run", "--mem", "18446744073709551615G"], "a number of MiB above 0"),
        (&["run", "src"], "'src' is a folder"),
    ] {
        let error = refusal(arguments).to_string();
        assert!(error.contains(why), "{arguments:?}: {error}");
    }
}
