// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask commits`: the messages of commits against the rules in CONTRIBUTING.md.
//!
//! `.ci/checked-since` names the last commit that is not checked. Merges are not checked either.

use anyhow::{Context, Result, bail};
use duct::cmd;

use crate::paths;

/// Most characters of a subject.
const WIDTH: usize = 72;
/// What a commit can be.
const TYPES: [&str; 10] =
    ["build", "chore", "ci", "docs", "feat", "fix", "perf", "refactor", "revert", "test"];

/// What is wrong with a message, one line each.
#[must_use]
pub fn faults(message: &str) -> Vec<String> {
    let (subject, rest) = message.split_once('\n').unwrap_or((message, ""));
    let mut found = Vec::new();
    let head = subject.split_once(": ").and_then(|(head, text)| {
        let (kind, scope) = head.strip_suffix(')')?.split_once('(')?;
        Some((kind, scope, text))
    });
    let is_scope = |scope: &str| {
        let is_name = |name: &str| {
            let allowed =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._/".contains(c);
            !name.is_empty() && name.chars().all(allowed)
        };
        scope.split(',').all(is_name)
    };
    match head {
        Some((kind, ..)) if !TYPES.contains(&kind) => {
            found.push(format!("`{kind}` is not a type; use one of {}", TYPES.join(", ")));
        }
        Some((_, scope, text)) if is_scope(scope) && !text.trim().is_empty() => {}
        _ => found.push("the subject is not `type(scope): subject`".into()),
    }
    let length = subject.chars().count();
    if length > WIDTH {
        found.push(format!("the subject has {length} characters, at most {WIDTH} are allowed"));
    }
    if subject.contains(';') {
        found.push("the subject has a semicolon: one change, one commit".into());
    }
    let (gap, body) = rest.split_once('\n').unwrap_or((rest, ""));
    // A trailer, such as `Signed-off-by: NAME`, says nothing of the reason.
    let is_trailer =
        |line: &str| line.split_once(": ").is_some_and(|(key, _)| key.ends_with("-by"));
    if !gap.is_empty() {
        found.push("the line below the subject is not empty".into());
    } else if body.lines().all(|line| line.trim().is_empty() || is_trailer(line)) {
        found.push("there is no body that says why".into());
    }
    found
}

/// Checks the commits after the one that `.ci/checked-since` names.
///
/// # Errors
///
/// A message that is against the rules, or no history to look at.
pub fn run() -> Result<()> {
    let file = paths::root().join(".ci/checked-since");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let since = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default().trim();
    let ancestor = cmd!("git", "merge-base", "--is-ancestor", since, "HEAD").stderr_null();
    let known = ancestor.dir(paths::root()).unchecked().run()?.status.success();
    let shallow = git(&["rev-parse", "--is-shallow-repository"])?.trim() == "true";
    let range = match (known, shallow) {
        (true, _) => format!("{since}..HEAD"),
        (false, true) => {
            println!("commits: a shallow clone without {since}: all that is there is checked");
            "HEAD".into()
        }
        (false, false) => bail!("{since} of {} is not in this history", file.display()),
    };
    let log = git(&["log", "--no-merges", "-z", "--format=%h%n%B", &range])?;
    let (mut commits, mut wrong) = (0_usize, 0_usize);
    for (hash, message) in log.split('\0').filter_map(|commit| commit.split_once('\n')) {
        commits += 1;
        let found = faults(message.trim_end());
        wrong += usize::from(!found.is_empty());
        let subject = message.lines().next().unwrap_or_default();
        for fault in found {
            println!("error: {hash} {subject}: {fault}");
        }
    }
    if wrong != 0 {
        bail!("{wrong} of {commits} commits are against the rules in CONTRIBUTING.md");
    }
    println!("commits: {commits} follow the rules");
    Ok(())
}

fn git(arguments: &[&str]) -> Result<String> {
    let git = duct::cmd("git", arguments).dir(paths::root()).stderr_capture();
    git.read().with_context(|| format!("git {} fails", arguments.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(subject: &str) -> Vec<String> {
        faults(&format!("{subject}\n\nIt was wrong."))
    }

    #[test]
    fn a_subject_has_a_type_and_a_scope() {
        for subject in [
            "fix(hyp): flush before power off",
            "refactor(vm,vgic): names",
            "feat(mmio-guard): range calls: pages",
            "ci(.ci): x",
        ] {
            assert_eq!(of(subject), [""; 0], "{subject}");
        }
        for subject in [
            "fix: flush",
            "flush",
            "fix(hyp) flush",
            "fix(hyp):flush",
            "fix(): flush",
            "fix(a,): b",
            "fix(Hyp): flush",
            "(hyp): flush",
            "fix(hyp): ",
            "mend(hyp): flush",
            "Merge branch 'x'",
        ] {
            assert_eq!(of(subject).len(), 1, "{subject}");
        }
    }

    #[test]
    fn a_subject_is_short_and_about_one_change() {
        let longest = format!("fix(hyp): {}", "x".repeat(WIDTH - 10));
        assert_eq!(of(&longest), [""; 0]);
        assert_eq!(of(&format!("{longest}x")).len(), 1);
        // Characters, not bytes.
        assert_eq!(of(&longest.replace("xx", "xä")), [""; 0]);
        assert_eq!(of("fix(hyp): this; that").len(), 1);
    }

    #[test]
    fn a_message_has_a_body() {
        let subject = "fix(hyp): flush";
        for message in [
            subject.to_owned(),
            format!("{subject}\n"),
            format!("{subject}\n\n"),
            format!("{subject}\n\nSigned-off-by: A <a@example.org>"),
            format!("{subject}\nIt was wrong."),
        ] {
            assert_eq!(faults(&message).len(), 1, "{message:?}");
        }
    }
}
