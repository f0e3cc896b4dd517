//! Runs the service as a process, and reads its figures from the system.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A child process that is killed when it is dropped.
pub struct ChildProcess(pub Child);

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl ChildProcess {
    /// Starts a program with only these environment variables.
    pub fn start(program: &Path, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        command.args(args).env_clear().envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn field(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Returns the resident memory now, in MiB.
    pub fn resident_mib(&self) -> f64 {
        mib(self.field("VmRSS:"))
    }

    /// Returns the peak of the resident memory, in MiB.
    pub fn peak_mib(&self) -> f64 {
        mib(self.field("VmHWM:"))
    }

    /// Returns the CPU time of the running threads, in nanoseconds.
    pub fn cpu_nanos(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let of = |task: PathBuf| fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        let all =
            tasks.flatten().filter_map(|task| of(task.path()).split_whitespace().next()?.parse::<u64>().ok()).sum();
        assert!(all > 0, "this kernel keeps no schedstat");
        all
    }

    /// Returns the number of bytes written to disk.
    pub fn written_bytes(&self) -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", self.0.id())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
    }
}

#[allow(clippy::cast_precision_loss)] // kibibytes of a process
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// Returns the CPU time of this process, including all threads, in nanoseconds.
pub fn own_cpu_nanos() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

/// Waits until a condition holds.
pub fn until(what: &str, timeout: Duration, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < timeout, "timed out waiting for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
