// SPDX-License-Identifier: MIT OR Apache-2.0
//! A user at the console of a guest that others wrote.

use anyhow::{Context, anyhow};
use xtask::guests::boot::{Boot, judge};
use xtask::qemu::{Machine, Run, Session};

use crate::fixture::{Checked, Fixture};

/// A guest with a user at its console.
#[derive(Debug)]
pub struct Console {
    /// Its machine.
    pub session: Session,
}

impl Console {
    /// Boots the guest called `name` on `machine`, with `words` more.
    ///
    /// # Errors
    ///
    /// A file of the guest was not made, or QEMU cannot be started.
    pub fn boot(
        fixture: &Fixture,
        machine: Machine,
        name: &str,
        words: &str,
    ) -> anyhow::Result<Self> {
        let boot = Boot::called(name).context("no such guest")?;
        let module = boot.module(words)?;
        let kernel = Some(fixture.images.hypervisor.clone());
        let session = fixture.boot(&Machine { kernel, modules: vec![module], ..machine })?;
        Ok(Self { session })
    }

    /// Waits for a line that contains `text`, and returns it.
    ///
    /// # Errors
    ///
    /// The machine ended, or said nothing for too long.
    pub fn wait_for(&mut self, text: &str) -> anyhow::Result<String> {
        self.session.wait_for(text)
    }

    /// Types `text`.
    ///
    /// # Errors
    ///
    /// The machine ended.
    pub fn send(&mut self, text: &str) -> Checked {
        self.session.send(text)
    }

    /// Waits for Linux' shell, and returns the line in which /init says how far it has come.
    ///
    /// # Errors
    ///
    /// It does not come so far.
    pub fn shell(&mut self) -> anyhow::Result<String> {
        let up = self.wait_for("guest: Linux")?;
        self.wait_for("guest: shell")?;
        Ok(up)
    }

    /// Types a line at U-Boot's prompt. (What is typed while a command runs, U-Boot throws away.)
    ///
    /// # Errors
    ///
    /// No prompt comes.
    pub fn u_boot(&mut self, command: &str) -> Checked {
        self.session.wait_for_prompt("=> ")?;
        self.send(&format!("{command}\n"))
    }

    /// Types a line at the UEFI shell's prompt.
    ///
    /// # Errors
    ///
    /// No prompt comes.
    pub fn uefi(&mut self, command: &str) -> Checked {
        let prompt = "Shell> \x1b[0m\x1b[37m\x1b[40m";
        self.session.wait_for_prompt(prompt)?;
        self.send(&format!("{command}\r"))
    }

    /// Runs a command in Linux' shell. Its status must be `status`; returns the line before the status, if one came.
    ///
    /// # Errors
    ///
    /// It ends otherwise, or not at all.
    pub fn run(&mut self, command: &str, status: u32) -> anyhow::Result<Option<String>> {
        let before = self.session.lines().len();
        // What is typed is echoed, and must not look like the answer.
        self.send(&format!("{command}; echo end\"\"=$?\n"))?;
        let end = self.wait_for("end=")?;
        let said = self.session.lines().get(before..).unwrap_or_default();
        if end.ends_with(&format!("end={status}")) {
            Ok(said.iter().rfind(|line| !line.contains("end")).cloned())
        } else {
            Err(anyhow!("`{command}` ended with `{end}` and not {status}: {said:?}"))
        }
    }

    /// Powers the VM off by `command` and reads to the end.
    ///
    /// # Errors
    ///
    /// The run did not end well.
    pub fn power_off(mut self, command: &str) -> anyhow::Result<Run> {
        self.send(command)?;
        let run = self.session.finish();
        judge(&run, 1, false)?;
        Ok(run)
    }
}
