//! A real systemd of its own for a test, in namespaces that see nothing of the host but programs, read-only.
//!
//! `systemd/private_root.sh` builds the root it lives in and refuses to start it in any other. Inside, the binary under
//! test is `/qsc/qsc` and `/usr/local/bin/qsc`, and `models-bin` is `/qsc/models-bin`. Everything written there is in
//! memory and vanishes with the test.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::bundle;
use crate::qsc::{self, Run};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const PRIVATE_ROOT: &str = include_str!("systemd/private_root.sh");
const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// A running systemd; dropped, it is gone with all its processes, files and cgroups.
#[derive(Debug)]
pub struct Systemd {
    cgroup: Cgroup,
    unshare: Child,
    /// Its PID 1, as the host numbers it; 0 before it is there.
    init: u32,
    /// Its root directory: held open, it can never be mistaken for another.
    root: Option<File>,
}

impl Systemd {
    /// Boots, or says loudly why that is not possible here.
    ///
    /// # Panics
    /// If it should be possible and fails, or `QSC_REQUIRE_ALL=1` and it is not possible.
    #[must_use]
    pub fn boot() -> Option<Self> {
        if let Some(reason) = obstacle() {
            crate::skip(&reason);
            return None;
        }
        let cgroup = match Cgroup::create() {
            Ok(cgroup) => cgroup,
            Err(error) => {
                crate::skip(&format!("no cgroup can be made for systemd: {error}"));
                return None;
            }
        };
        let mut systemd = Self::start(cgroup);
        systemd.wait_until_up();
        Some(systemd)
    }

    fn start(cgroup: Cgroup) -> Self {
        let namespace = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        // The cgroup is entered before its namespace is made: it becomes the root systemd sees. If the test is killed,
        // its death ends unshare, whose death ends PID 1 and with it everything inside.
        let enter = "echo 0 >\"$1/cgroup.procs\" && shift && exec \"$@\"";
        let unshare = Command::new("sh")
            .args(["-c", enter, "sh"])
            .arg(&cgroup.0)
            .args(["setpriv", "--pdeathsig", "KILL"])
            .arg("--bounding-set=-sys_module,-sys_rawio,-sys_time,-sys_boot")
            .args(["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=KILL"])
            .args(["--uts", "--ipc", "--net", "--cgroup", "sh", "-c", PRIVATE_ROOT, "private_root"])
            .args([namespace("mnt"), namespace("cgroup"), qsc::binary().into(), bundle::file("")])
            .args(["env", "-i", "container=lxc", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", SYSTEMD])
            .args(["--system", "--unit=basic.target", "--log-target=journal", "--show-status=no"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("unshare starts");
        Self { cgroup, unshare, init: 0, root: None }
    }

    fn wait_until_up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.unshare.try_wait().expect("a child can be asked") {
                panic!("systemd did not start: {status}; see the lines above");
            }
            // Under that name it has left the host's root: private_root.sh becomes systemd in no other.
            if self.root.is_none()
                && let Some(init) = child_of(self.unshare.id())
            {
                self.init = init;
                self.root = Some(File::open(format!("/proc/{init}/root")).expect("PID 1 has a root"));
                assert!(self.path("/qsc/qsc").exists(), "this is not the private root");
            }
            if self.root.is_some() && self.is_up() {
                return;
            }
            thread::sleep(POLL);
        }
        panic!("systemd is not up after {PATIENCE:?}");
    }

    fn is_up(&self) -> bool {
        let mut command = self.command("systemctl");
        let asked = command.args(["is-active", "--quiet", "basic.target"]).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    }

    /// Where the host finds the file that is `path` inside.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        let root = self.root.as_ref().expect("systemd was booted");
        PathBuf::from(format!("/proc/self/fd/{}{path}", root.as_raw_fd()))
    }

    /// Writes a file inside.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let target = self.path(path);
        fs::create_dir_all(target.parent().expect("an absolute path")).expect("the directory is made");
        fs::write(target, text).expect("the file is written");
    }

    /// Reads a file inside.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Writes a service unit and makes systemd read it. `service` is what `[Service]` holds.
    pub fn unit(&self, name: &str, service: &str) {
        self.write(&format!("/run/systemd/system/{name}"), format!("[Unit]\n[Service]\n{service}\n"));
        self.sh("systemctl daemon-reload");
    }

    /// A command inside, in a clean environment.
    ///
    /// # Panics
    /// If PID 1 has died: its number may be another's by now.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        assert_eq!(child_of(self.unshare.id()), Some(self.init), "systemd has died");
        let mut command = Command::new("nsenter");
        // Not --wd: that directory would be the host's.
        command.args(["--target", &self.init.to_string(), "--all", "--", "env", "--chdir=/run", program]);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null());
        command
    }

    /// Runs the binary inside, in `/run`.
    pub fn qsc(&self, arguments: &[&str]) -> Run {
        let mut command = self.command("/qsc/qsc");
        command.args(arguments);
        qsc::finish(command, &[])
    }

    /// Runs a shell command inside and returns what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn sh(&self, script: &str) -> String {
        let output = self.command("sh").args(["-c", script]).output().expect("nsenter runs");
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).expect("it prints UTF-8").trim_end().to_owned()
    }

    /// One property of a unit.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.sh(&format!("systemctl show --value --property={name} -- {unit}"))
    }

    /// Waits until `done`.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            thread::sleep(POLL);
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // Its death ends PID 1, and that every process of the namespace.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        self.cgroup.remove();
    }
}

/// Why systemd cannot be booted on this machine.
fn obstacle() -> Option<String> {
    if !Path::new(SYSTEMD).exists() {
        return Some("systemd is not installed".to_owned());
    }
    let tool_is_missing =
        |tool: &&str| Command::new(tool).arg("--version").stdout(Stdio::null()).status().is_err();
    if let Some(tool) = ["unshare", "nsenter", "setpriv", "mount"].into_iter().find(tool_is_missing) {
        return Some(format!("{tool} (util-linux) is not installed"));
    }
    let probe =
        ["--mount", "--propagation", "private", "--pid", "--fork", "--uts", "--ipc", "--net", "--cgroup"];
    let probe =
        Command::new("unshare").args(probe).args(["mount", "-t", "tmpfs", "private", "/mnt"]).output();
    let allowed = probe.is_ok_and(|output| output.status.success());
    (!allowed)
        .then(|| "namespaces with mounts of their own are not allowed here (this needs root)".to_owned())
}

/// The one child of a process that has at most one.
fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let child: u32 = children.split_whitespace().next()?.parse().ok()?;
    // Before it is unshare's child it may be one of the programs before it.
    let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    (name.trim() == "systemd").then_some(child)
}

/// A cgroup for one systemd, in the hierarchy systemd uses.
#[derive(Debug)]
struct Cgroup(PathBuf);

impl Cgroup {
    fn create() -> std::io::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let (root, line) =
            if unified { ("/sys/fs/cgroup", "0::") } else { ("/sys/fs/cgroup/systemd", ":name=systemd:") };
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|entry| Some(entry.split_once(line)?.1)).unwrap_or("/");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("qsc-test-{}-{number}", std::process::id());
        let path = Path::new(root).join(own.trim_start_matches('/')).join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Removes it with what systemd has made in it; a process in it may take a moment to vanish.
    fn remove(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !remove_cgroup(&self.0) && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        if self.0.exists() {
            let _ = writeln!(std::io::stderr(), "cannot remove the cgroup {}", self.0.display());
        }
    }
}

fn remove_cgroup(path: &Path) -> bool {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    fs::remove_dir(path).is_ok()
}
