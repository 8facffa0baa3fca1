//! Holds a process at each system call that changes files below a directory, counts these calls over all its threads,
//! and at a chosen one kills the process, or makes the call fail without being done.
//!
//! `ptrace` itself, not a tracing program: those count the calls of each thread apart, and then some calls of some
//! threads are never the chosen one. One thread of ours traces one process; it alone may wait for it.

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::fmt;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// The process is killed; the call is not done. Before that its other threads go on for a while, so that whoever
    /// is told too early is told.
    Kill,
    /// The call is not done and answers this, once.
    Fail(Errno),
}

/// Which call, and what happens there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strike {
    pub(crate) deed: Deed,
    /// How many calls that the deed applies to come before.
    pub(crate) after: u64,
}

/// A call that changes files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.name, self.path.display())
    }
}

/// For how long the thread is held at its call before the process is killed.
const HOLD: Duration = Duration::from_millis(4);

/// How a traced process ended.
#[derive(Debug)]
pub(crate) struct Traced {
    /// Its exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// How many calls the deed applied to, the chosen one included.
    pub(crate) counted: u64,
    /// The chosen call, if it came so far.
    pub(crate) struck: Option<Call>,
}

/// The process will stop itself before it begins, and then become `command`.
pub(crate) fn held(command: &Command) -> Command {
    let mut held = Command::new("/bin/sh");
    held.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => held.env(name, value),
            None => held.env_remove(name),
        };
    }
    held
}

/// Traces the process `root` until it ends. It must be a child of the calling thread, made by [`held`].
///
/// # Panics
/// When this machine does not let processes be traced.
pub(crate) fn trace(root: Pid, directory: &Path, strike: Strike) -> Traced {
    // Whichever way we end, what we trace ends too.
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    let stopped = waitpid(root, Some(WaitPidFlag::WUNTRACED)).expect("it stops itself");
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "it stops itself: {stopped:?}");
    ptrace::seize(root, options).unwrap_or_else(|error| {
        let _ = nix::sys::signal::kill(root, Signal::SIGKILL);
        panic!("a process of ours cannot be traced ({error}); allow ptrace (CAP_SYS_PTRACE, or seccomp and Yama rules)")
    });
    nix::sys::signal::kill(root, Signal::SIGCONT).expect("it is ours");
    let mut tracer = Tracer {
        root,
        directory,
        strike,
        began: false,
        failing: HashSet::new(),
        counted: 0,
        struck: None,
        deadline: None,
    };
    let code = tracer.run();
    Traced { code, counted: tracer.counted, struck: tracer.struck }
}

struct Tracer<'a> {
    root: Pid,
    directory: &'a Path,
    strike: Strike,
    /// It has become the broker.
    began: bool,
    /// Threads in a call that is to fail.
    failing: HashSet<Pid>,
    counted: u64,
    struck: Option<Call>,
    /// When the process is to be killed.
    deadline: Option<Instant>,
}

impl Tracer<'_> {
    fn run(&mut self) -> Option<i32> {
        let mut code = None;
        loop {
            // All threads of what this thread traces, and nothing that other threads of ours have started.
            let mut flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            flags.set(WaitPidFlag::WNOHANG, self.deadline.is_some());
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) => self.kill_when_due(),
                Err(Errno::ECHILD) => return code,
                Err(Errno::EINTR) => {}
                Err(error) => panic!("cannot wait for what is traced: {error}"),
                Ok(WaitStatus::Exited(thread, exit_code)) if thread == self.root => code = Some(exit_code),
                Ok(WaitStatus::PtraceSyscall(thread)) => self.at_call(thread),
                Ok(WaitStatus::PtraceEvent(thread, _, event)) => {
                    self.began |= event == Event::PTRACE_EVENT_EXEC as i32;
                    go_on(thread, None);
                }
                Ok(WaitStatus::Stopped(thread, signal)) => go_on(thread, Some(signal)),
                Ok(_) => {}
            }
        }
    }

    fn at_call(&mut self, thread: Pid) {
        const ENTRY: u8 = libc::PTRACE_SYSCALL_INFO_ENTRY;
        // A thread that is gone by now was killed.
        let Ok(info) = ptrace::syscall_info(thread) else { return };
        if info.op != ENTRY {
            if self.failing.remove(&thread)
                && let Deed::Fail(error) = self.strike.deed
                && let Ok(mut registers) = ptrace::getregs(thread)
            {
                registers.rax = i64::from(-(error as i32)).cast_unsigned();
                let _ = ptrace::setregs(thread, registers);
            }
            return go_on(thread, None);
        }
        let call = if self.began { ptrace::getregs(thread).ok().and_then(|regs| call_of(thread, &regs)) } else { None };
        let Some(call) = call.filter(|call| call.path.starts_with(self.directory) && self.applies(call)) else {
            return go_on(thread, None);
        };
        self.counted += 1;
        if self.counted - 1 == self.strike.after {
            self.struck = Some(call);
            match self.strike.deed {
                Deed::Kill => {
                    self.deadline = Some(Instant::now() + HOLD);
                    return;
                }
                Deed::Fail(_) => {
                    if let Ok(mut registers) = ptrace::getregs(thread) {
                        // There is no call of this number: the kernel does nothing.
                        registers.orig_rax = u64::MAX;
                        let _ = ptrace::setregs(thread, registers);
                        self.failing.insert(thread);
                    }
                }
            }
        }
        go_on(thread, None);
    }

    fn kill_when_due(&mut self) {
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            self.deadline = None;
            // It was not waited for, so the number is still its own.
            nix::sys::signal::kill(self.root, Signal::SIGKILL).expect("a thread of it is held");
        }
        std::thread::yield_now();
    }

    /// Whether the deed makes sense at this call.
    fn applies(&self, call: &Call) -> bool {
        match self.strike.deed {
            // Names can be taken away on a full disk, and a sync needs no space that was not reserved.
            Deed::Fail(Errno::ENOSPC) => {
                ["write", "pwrite", "pwritev", "fallocate", "open", "rename", "mkdir"].contains(&call.name)
            }
            Deed::Kill | Deed::Fail(_) => true,
        }
    }
}

/// Lets a held thread go on to its next call. One that is gone was killed.
fn go_on(thread: Pid, signal: Option<Signal>) {
    let _ = ptrace::syscall(thread, signal);
}

/// The call that a thread is about to make, if it is one that changes files.
fn call_of(thread: Pid, registers: &libc::user_regs_struct) -> Option<Call> {
    let number = registers.orig_rax.cast_signed();
    let (first, second) = (registers.rdi, registers.rsi);
    let by_descriptor = |name| Some(Call { name, path: path_of_descriptor(thread, first)? });
    let by_path = |name, at| Some(Call { name, path: text_at(thread, at)?.into() });
    let by_relative_path = |name| Some(Call { name, path: path_below(thread, first, second)? });
    match number {
        libc::SYS_write | libc::SYS_writev => by_descriptor("write"),
        libc::SYS_pwrite64 => by_descriptor("pwrite"),
        libc::SYS_pwritev | libc::SYS_pwritev2 => by_descriptor("pwritev"),
        libc::SYS_fdatasync => by_descriptor("fdatasync"),
        libc::SYS_fsync => by_descriptor("fsync"),
        libc::SYS_syncfs => by_descriptor("syncfs"),
        libc::SYS_fallocate => by_descriptor("fallocate"),
        libc::SYS_ftruncate => by_descriptor("ftruncate"),
        libc::SYS_rename => by_path("rename", first),
        libc::SYS_renameat | libc::SYS_renameat2 => by_relative_path("rename"),
        libc::SYS_unlink => by_path("unlink", first),
        libc::SYS_unlinkat => by_relative_path("unlink"),
        libc::SYS_rmdir => by_path("rmdir", first),
        libc::SYS_mkdir => by_path("mkdir", first),
        libc::SYS_mkdirat => by_relative_path("mkdir"),
        // Opening changes something only when it creates or empties.
        libc::SYS_openat if registers.rdx & u64::from((libc::O_CREAT | libc::O_TRUNC).cast_unsigned()) != 0 => {
            by_relative_path("open")
        }
        _ => None,
    }
}

fn path_of_descriptor(thread: Pid, descriptor: u64) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{thread}/fd/{descriptor}")).ok()
}

/// A path that may be relative to an open directory.
fn path_below(thread: Pid, directory: u64, path: u64) -> Option<PathBuf> {
    let path = PathBuf::from(text_at(thread, path)?);
    if path.is_absolute() {
        return Some(path);
    }
    Some(path_of_descriptor(thread, directory & u64::from(u32::MAX))?.join(path))
}

/// A text in the memory of a held thread.
fn text_at(thread: Pid, address: u64) -> Option<String> {
    let memory = std::fs::OpenOptions::new().read(true).open(format!("/proc/{thread}/mem")).ok()?;
    let mut text = Vec::new();
    let mut part = [0; 64];
    while text.len() < 4096 {
        let read = memory.read_at(&mut part, address + text.len() as u64).ok()?;
        match part[..read].iter().position(|byte| *byte == 0) {
            Some(end) => {
                text.extend_from_slice(&part[..end]);
                return String::from_utf8(text).ok();
            }
            None if read == 0 => return None,
            None => text.extend_from_slice(&part[..read]),
        }
    }
    None
}
