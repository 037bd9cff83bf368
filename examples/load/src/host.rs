//! What the system says about processes and itself: CPU, memory, threads, descriptors, drops.
use std::fs;

use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// CPU time of this process, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct OwnCpu {
    pub(crate) seconds: f64,
    /// Memory in use at the end, and at most, in KiB.
    pub(crate) rss_kib: u64,
    pub(crate) peak_kib: u64,
}

impl OwnCpu {
    /// So far.
    pub(crate) fn now() -> Self {
        let status = status_of("self").unwrap_or_default();
        Self {
            seconds: cpu_seconds(ClockId::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default(),
            rss_kib: field(&status, "VmRSS:").unwrap_or_default(),
            peak_kib: field(&status, "VmHWM:").unwrap_or_default(),
        }
    }

    /// Since `before`; memory as it is now.
    pub(crate) fn since(mut self, before: &Self) -> Self {
        self.seconds -= before.seconds;
        self
    }
}

fn cpu_seconds(clock: ClockId) -> Option<f64> {
    let time = clock_gettime(clock).ok()?;
    Some(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

fn status_of(pid: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse().ok()
}

/// What a process has used up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Use {
    cpu: f64,
    rss_kib: u64,
    threads: u64,
    switches: u64,
}

/// What the server's process used during a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServerUse {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_start_kib: u64,
    pub(crate) rss_end_kib: u64,
    pub(crate) rss_max_kib: u64,
    pub(crate) threads_max: u64,
    pub(crate) context_switches: u64,
}

/// The server's process, watched from before the first connection.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    name: String,
    clock: ClockId,
    /// Before the first connection: memory per connection is counted from here.
    before: Use,
    /// At the start of the load: CPU time is counted from here.
    start: Use,
    last: Use,
    rss_max: u64,
    threads_max: u64,
    samples: u32,
}

impl Process {
    /// Begins to watch a process.
    ///
    /// # Errors
    /// If there is no such process.
    pub(crate) fn watch(pid: u32) -> Result<Self, String> {
        let none = || format!("--pid {pid}: no such process");
        let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed())).map_err(|_| none())?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).map_err(|_| none())?;
        let mut process = Self {
            pid,
            name: name.trim().to_owned(),
            clock,
            before: Use::default(),
            start: Use::default(),
            last: Use::default(),
            rss_max: 0,
            threads_max: 0,
            samples: 0,
        };
        process.before = process.used_so_far().ok_or_else(none)?;
        process.start = process.before;
        process.last = process.before;
        Ok(process)
    }

    fn used_so_far(&self) -> Option<Use> {
        let status = status_of(&self.pid.to_string())?;
        let switches = |status: &str| {
            field(status, "voluntary_ctxt_switches:").unwrap_or_default()
                + field(status, "nonvoluntary_ctxt_switches:").unwrap_or_default()
        };
        // A process that has ended but was not waited for has no memory left to tell of.
        Some(Use {
            cpu: cpu_seconds(self.clock)?,
            rss_kib: field(&status, "VmRSS:")?,
            threads: field(&status, "Threads:")?,
            switches: fs::read_dir(format!("/proc/{}/task", self.pid))
                .ok()?
                .filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok())
                .map(|status| switches(&status))
                .sum(),
        })
    }

    /// The load begins now.
    pub(crate) fn mark(&mut self) {
        if let Some(used) = self.used_so_far() {
            self.start = used;
            self.last = used;
            self.rss_max = used.rss_kib;
            self.threads_max = used.threads;
        }
    }

    /// Takes a look, once in a while.
    pub(crate) fn sample(&mut self) {
        self.samples += 1;
        if self.samples % 10 == 1 {
            self.look();
        }
    }

    fn look(&mut self) {
        if let Some(used) = self.used_so_far() {
            self.rss_max = self.rss_max.max(used.rss_kib);
            self.threads_max = self.threads_max.max(used.threads);
            self.last = used;
        }
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid.cast_signed()) {
            // If it is gone already, that is seen by what it leaves unanswered.
            let _: Result<(), _> =
                rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }

    /// Whether it has ended, waited for or not.
    pub(crate) fn is_gone(&self) -> bool {
        match fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            // The state follows the name, which stands in parentheses and may hold anything.
            Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
            Err(_) => true,
        }
    }

    /// What it has used since the load began.
    pub(crate) fn used(mut self) -> ServerUse {
        self.look();
        ServerUse {
            pid: self.pid,
            name: self.name,
            cpu_seconds: self.last.cpu - self.start.cpu,
            rss_start_kib: self.before.rss_kib,
            rss_end_kib: self.last.rss_kib,
            rss_max_kib: self.rss_max,
            threads_max: self.threads_max,
            context_switches: self.last.switches.saturating_sub(self.start.switches),
        }
    }
}

/// Datagrams dropped for lack of buffer on this machine, so far.
pub(crate) fn datagram_drops() -> u64 {
    let text = fs::read_to_string("/proc/net/snmp").unwrap_or_default();
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let at = names.split_whitespace().position(|name| name == "RcvbufErrors");
    at.and_then(|at| values.split_whitespace().nth(at)?.parse().ok()).unwrap_or_default()
}

/// Where a run took place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
}

impl Host {
    /// This machine.
    pub(crate) fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpus = read("/proc/cpuinfo");
        let model =
            cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        Self {
            name: read("/proc/sys/kernel/hostname"),
            kernel: read("/proc/sys/kernel/osrelease"),
            cpu: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal:").unwrap_or_default() / 1024,
        }
    }
}

/// Raises the limit on descriptors as far as needed; what was done, to be told.
///
/// # Errors
/// If even the hard limit is too low.
pub(crate) fn raise_descriptors(needed: u64) -> Result<Option<String>, String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    if needed <= soft {
        return Ok(None);
    }
    if needed > hard {
        return Err(format!(
            "{needed} descriptors are needed, and the hard limit is {hard}: fewer --connections, or a higher ulimit -Hn"
        ));
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .map_err(|error| format!("cannot raise the limit on descriptors to {hard}: {error}"))?;
    Ok(Some(format!("raised the limit on descriptors from {soft} to {hard}")))
}

#[cfg(test)]
mod tests {
    use super::{Host, Process, field};

    #[test]
    fn a_status_field_is_found_by_its_name() {
        assert_eq!(field("VmPeak:\t  12 kB\nVmRSS:\t 3456 kB\n", "VmRSS:"), Some(3456));
        assert_eq!(field("Threads:\t4\n", "VmRSS:"), None);
    }

    #[test]
    fn this_very_process_can_be_watched() {
        let process = Process::watch(std::process::id()).expect("alive");
        assert!(!process.is_gone());
        let used = process.used();
        assert!(used.rss_end_kib > 0 && used.threads_max > 0);
        assert!(Process::watch(4_194_303).is_err());
        assert!(Host::here().cores > 0);
    }
}
