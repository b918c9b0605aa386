// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debian packages for arm64, through the machine's own apt sources but with lists and cache of our own: nothing
//! of the machine changes, and root is not needed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::progress::{self, Progress};
use anyhow::{Context, Result, anyhow, bail};
use duct::{Expression, cmd};

/// A folder with apt's lists and the packages fetched so far.
#[derive(Debug, Clone)]
pub struct Apt {
    folder: PathBuf,
    /// apt's own options for whose packages they are.
    options: Vec<String>,
}

/// A package file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// `NAME_VERSION_ARCHITECTURE.deb`.
    pub file: PathBuf,
}

impl Apt {
    /// Keeps everything below `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let options = ["APT::Architecture=arm64", "APT::Architectures=arm64"];
        Self { folder: folder.into(), options: options.map(str::to_owned).into() }
    }

    /// Packages of this machine's own suite, for this machine itself.
    #[must_use]
    pub fn machine(folder: &Path) -> Self {
        Self { folder: folder.into(), options: Vec::new() }
    }

    /// Packages for `architecture`, or for this machine itself, from the backports of this machine's suite.
    ///
    /// # Errors
    ///
    /// This machine has no apt sources of Debian for its own suite.
    pub fn backports(folder: &Path, architecture: Option<&str>) -> Result<Self> {
        Self::other_suite(folder, architecture, |codename| format!("{codename}-backports"))
    }

    /// arm64 packages from Debian's unstable suite.
    ///
    /// # Errors
    ///
    /// This machine has no apt sources of Debian for its own suite.
    pub fn unstable(folder: &Path) -> Result<Self> {
        Self::other_suite(folder, Some("arm64"), |_| "sid".to_owned())
    }

    /// Packages from the place of this machine's own sources, of the suite that `suite` makes of their suite.
    fn other_suite(
        folder: &Path,
        architecture: Option<&str>,
        suite: impl FnOnce(&str) -> String,
    ) -> Result<Self> {
        let parts = folder.join("parts");
        fs::create_dir_all(&parts).with_context(|| parts.display().to_string())?;
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        let codename =
            codename.context("/etc/os-release has no VERSION_CODENAME: is this Debian?")?;
        let suite = suite(codename);
        let mut own = vec![PathBuf::from("/etc/apt/sources.list")];
        own.extend(
            fs::read_dir("/etc/apt/sources.list.d")
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path()),
        );
        own.sort();
        for file in own {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let (source, name) = if file.extension().is_some_and(|it| it == "sources") {
                (stanza_of_suite(&text, codename, &suite), "suite.sources")
            } else {
                (line_of_suite(&text, codename, &suite), "suite.list")
            };
            if let Some(source) = source {
                let part = parts.join(name);
                fs::write(&part, source).with_context(|| part.display().to_string())?;
                let mut options = vec![
                    "Dir::Etc::SourceList=/dev/null".to_owned(),
                    format!("Dir::Etc::SourceParts={}", parts.display()),
                ];
                if let Some(name) = architecture {
                    options.push(format!("APT::Architecture={name}"));
                    options.push(format!("APT::Architectures={name}"));
                }
                return Ok(Self { folder: folder.into(), options });
            }
        }
        Err(anyhow!(
            "apt's sources on this machine have no suite {codename}, so that {suite} cannot be found beside it"
        ))
    }

    fn packages(&self) -> PathBuf {
        self.folder.join("packages")
    }

    /// A package that is there already, of several the one whose name sorts last.
    #[must_use]
    pub fn cached(&self, name: &str) -> Option<Package> {
        let prefix = format!("{name}_");
        let entries = fs::read_dir(self.packages()).ok()?.flatten();
        let files = entries.map(|entry| entry.path()).filter(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && name.ends_with(".deb")
        });
        files.max().map(|file| Package { file })
    }

    /// A package, from the cache or fetched.
    ///
    /// # Errors
    ///
    /// There is no apt, no network, or no such package.
    pub fn package(&self, name: &str) -> Result<Package> {
        if let Some(package) = self.cached(name) {
            return Ok(package);
        }
        self.lists()?;
        let folder = self.packages();
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        // In a folder of its own, so that a download that breaks off leaves no half a package behind.
        let arriving = self.folder.join("arriving");
        let _ = fs::remove_dir_all(&arriving);
        fs::create_dir_all(&arriving).with_context(|| arriving.display().to_string())?;
        let mut command = self.command("apt-get");
        command.args(["download", name]).current_dir(&arriving);
        run(&mut command, Some(&format!("fetching {name}"))).map_err(|error| {
            anyhow!(
                "{name} cannot be fetched: {error:#}\n  without a network, put its .deb into {}",
                folder.display()
            )
        })?;
        for entry in
            fs::read_dir(&arriving).with_context(|| arriving.display().to_string())?.flatten()
        {
            let to = folder.join(entry.file_name());
            fs::rename(entry.path(), &to).with_context(|| to.display().to_string())?;
        }
        let _ = fs::remove_dir(&arriving);
        self.cached(name).with_context(|| format!("apt-get download {name} left no package"))
    }

    /// The first package that `name` depends on and that begins with `prefix`: the package behind a metapackage.
    ///
    /// # Errors
    ///
    /// There is no apt, no network, or no such package.
    pub fn stands_for(&self, name: &str, prefix: &str) -> Result<String> {
        self.lists()?;
        let output = run(self.command("apt-cache").args(["depends", name]), None)?;
        output
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|other| other.starts_with(prefix))
            .map(str::to_owned)
            .with_context(|| format!("Debian's {name} depends on no {prefix}..."))
    }

    /// Fetches the lists, unless they are there.
    fn lists(&self) -> Result<()> {
        let done = self.folder.join("apt").join("updated");
        if done.is_file() {
            return Ok(());
        }
        for folder in ["apt/lists/partial", "apt/cache/archives/partial"] {
            let folder = self.folder.join(folder);
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        let what = Some("reading Debian's lists of packages");
        run(self.command("apt-get").args(["update", "--error-on=any"]), what).or_else(|_| {
            // Some source may have no arm64; what is missing shows when a package is asked for.
            run(self.command("apt-get").arg("update"), what)
        })?;
        fs::write(&done, "").with_context(|| done.display().to_string())
    }

    /// Forgets the lists: the next package that is not cached is looked up afresh.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn forget(&self) -> Result<()> {
        match fs::remove_dir_all(self.folder.join("apt")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| self.folder.display().to_string())
            }
            _ => Ok(()),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let apt = self.folder.join("apt");
        command.arg("-q").args(self.options.iter().map(|option| format!("-o{option}")));
        command.arg(format!("-oDir::State::Lists={}", apt.join("lists").display()));
        command.arg(format!("-oDir::Cache={}", apt.join("cache").display()));
        // The user that apt would drop to may not write here.
        command.arg("-oAPT::Sandbox::User=root");
        command.env("LC_ALL", "C");
        command
    }
}

/// Of a file of apt's in the newer format, the first stanza with the suite `codename`, with `suite` instead.
fn stanza_of_suite(text: &str, codename: &str, suite: &str) -> Option<String> {
    let stanza = text.split("\n\n").find(|stanza| {
        let suites = stanza.lines().find_map(|line| line.strip_prefix("Suites:"));
        let source = stanza.lines().any(|line| line.starts_with("Types:") && line.contains("deb"));
        source && suites.is_some_and(|all| all.split_whitespace().any(|one| one == codename))
    })?;
    let line = |line: &str| match line.split_once(':') {
        Some(("Suites", _)) => format!("Suites: {suite}\n"),
        _ => format!("{line}\n"),
    };
    Some(stanza.lines().map(line).collect())
}

/// The same of a file in the older format, a source a line.
fn line_of_suite(text: &str, codename: &str, suite: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = words.iter().position(|word| *word == codename)?;
        if words.first() != Some(&"deb") {
            return None;
        }
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        suite.clone_into(words.get_mut(place)?);
        Some(words.join(" ") + "\n")
    })
}

impl Package {
    /// Unpacks the files that match `pattern`, as tar's wildcards have it, below `folder`, without the first `strip` folders
    /// of their paths.
    ///
    /// # Errors
    ///
    /// The package is damaged, or has no such file.
    pub fn unpack(&self, pattern: &str, strip: u32, folder: &Path) -> Result<()> {
        let strip = format!("--strip-components={strip}");
        let tar = cmd!("tar", "-x", "--wildcards", strip, "-C", folder, pattern);
        self.piped(pattern, &tar).map(drop)
    }

    /// Name and version, for people: `busybox-static 1:1.35.0-4`.
    #[must_use]
    pub fn version(&self) -> String {
        let file = self.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut parts = file.split('_');
        let name = parts.next().unwrap_or_default();
        format!("{name} {}", parts.next().unwrap_or_default().replace("%3a", ":"))
    }

    /// The content of the one file that matches `pattern`, as tar's wildcards have it.
    ///
    /// # Errors
    ///
    /// The package is damaged, or has no such file.
    pub fn read(&self, pattern: &str) -> Result<Vec<u8>> {
        let content = self.piped(pattern, &pick(pattern))?;
        if content.is_empty() {
            bail!("{} holds no {pattern}", self.file.display());
        }
        Ok(content)
    }

    /// Pipes the one file that matches `pattern` into `command`.
    ///
    /// # Errors
    ///
    /// The package is damaged, has no such file, or the command fails.
    pub fn pipe(&self, pattern: &str, command: &Expression) -> Result<()> {
        self.piped(pattern, &pick(pattern).pipe(command.clone())).map(drop)
    }

    /// What `command` makes of the package's files, as a tar archive.
    fn piped(&self, pattern: &str, command: &Expression) -> Result<Vec<u8>> {
        let archive = cmd!("dpkg-deb", "--fsys-tarfile", &self.file);
        let all = archive.pipe(command.clone()).stdout_capture().stderr_capture().unchecked();
        let output = all.run().context("cannot run dpkg-deb and tar")?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!("{} holds no {pattern}: {}", self.file.display(), why.trim());
        }
        Ok(output.stdout)
    }
}

/// tar, which writes the one file that matches `pattern`.
fn pick(pattern: &str) -> Expression {
    cmd!("tar", "-x", "--to-stdout", "--wildcards", pattern)
}

/// Whether this user may install packages.
pub(super) fn may_install() -> bool {
    // /proc/self belongs to the effective user.
    fs::metadata("/proc/self").is_ok_and(|of| of.uid() == 0)
        && Path::new("/usr/bin/apt-get").exists()
}

/// Installs `packages` on this machine.
///
/// # Errors
///
/// apt-get cannot install them.
pub(super) fn install(packages: &[&str], what: &str) -> Result<()> {
    let apt_get = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(words);
        command
    };
    // Old lists may do, or there is no network and the packages are in the cache.
    let _ = run(&mut apt_get(&["update", "-q"]), Some(what));
    let mut command = apt_get(&["install", "-y", "-q", "--no-install-recommends"]);
    run(command.args(packages), Some(what)).map(drop)
}

/// Output of `command`, as progress of `what` if that takes long; if it fails, its last words.
fn run(command: &mut Command, what: Option<&str>) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut said = String::new();
    let mut progress = Progress::start(what.unwrap_or(&program));
    let status = progress::run(command, &mut progress, |progress, line| {
        said.push_str(line);
        said.push('\n');
        if what.is_some() {
            progress.set(0, 0, line);
        }
    });
    let status = status
        .map_err(|_| anyhow!("there is no {program} here: the guests come as Debian packages"))?;
    if status.success() {
        return Ok(said);
    }
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it failed");
    Err(anyhow!("{program}: {last}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("packages")).unwrap();
        folder
    }

    #[test]
    fn backports_stand_beside_the_suite_of_the_machine() {
        let newer = "Types: deb\nURIs: http://x/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: K\n\n\
                     Types: deb\nURIs: http://x/security\nSuites: bookworm-security\nComponents: main\n";
        let expected = "Types: deb\nURIs: http://x/debian\nSuites: bookworm-backports\nComponents: main\nSigned-By: K\n";
        assert_eq!(
            stanza_of_suite(newer, "bookworm", "bookworm-backports").as_deref(),
            Some(expected)
        );
        assert_eq!(stanza_of_suite(newer, "trixie", "sid"), None);
        let older = "# deb http://x bookworm main\ndeb-src http://x bookworm main\ndeb [signed-by=K] http://x bookworm main contrib\n";
        let expected = "deb [signed-by=K] http://x bookworm-backports main contrib\n";
        assert_eq!(
            line_of_suite(older, "bookworm", "bookworm-backports").as_deref(),
            Some(expected)
        );
        assert_eq!(line_of_suite(older, "book", "sid"), None);
    }

    #[test]
    fn cached_packages_are_found_by_whole_name_and_the_last_one_wins() {
        let folder = folder();
        for name in
            ["a_1%3a2.0_arm64.deb", "a_1%3a1.0_arm64.deb", "a-b_9_all.deb", "a_2_arm64.part"]
        {
            fs::write(folder.path().join("packages").join(name), "").unwrap();
        }
        let apt = Apt::new(folder.path());
        assert_eq!(apt.cached("a").unwrap().version(), "a 1:2.0");
        assert_eq!(apt.cached("a-b").unwrap().version(), "a-b 9");
        assert_eq!(apt.cached("b"), None);
        // What is cached needs neither lists nor network.
        assert!(apt.package("a").is_ok());
    }

    #[test]
    fn a_damaged_package_is_named() {
        let folder = folder();
        let file = folder.path().join("packages").join("bad_1_arm64.deb");
        fs::write(&file, "no archive").unwrap();
        let error = Package { file }.read("./boot/*").unwrap_err().to_string();
        assert!(error.contains("bad_1_arm64.deb holds no ./boot/*"), "{error}");
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let error = run(&mut Command::new("no-such-program"), None).unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("Debian"), "{error}");
        let error =
            run(Command::new("sh").args(["-c", "echo first >&2; echo why >&2; exit 1"]), None);
        assert_eq!(error.unwrap_err().to_string(), "sh: why");
    }
}
