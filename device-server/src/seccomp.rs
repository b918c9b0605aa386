// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of the kernel that the server makes once everything is open. Any other ends the process: a guest that has taken
//! it over opens no file, makes no socket and starts no program.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::MaskedEq;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter_all_threads,
};

/// Allowed with any arguments.
const CALLS: &[i64] = &[
    // Files, packets and terminals that are open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_fdatasync,
    libc::SYS_fallocate,
    libc::SYS_close,
    // Eventfds and what waits for them.
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_fcntl,
    // Memory of the allocator and of threads.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads, and the end.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_membarrier,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    // Daemons of --vhost-user, which are connected already.
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_shutdown,
    // The socket of --stats, which listens already.
    libc::SYS_accept4,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
];

/// Confines all threads of the process, for good.
///
/// # Errors
///
/// A kernel without seccomp, or an architecture that the filter does not know.
pub fn confine() -> Result<()> {
    let filter = filter().context("the seccomp filter")?;
    apply_filter_all_threads(&filter)
        .context("this kernel takes no seccomp filter: use --no-seccomp")
}

fn filter() -> Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        CALLS.iter().map(|call| (*call, Vec::new())).collect();
    let only = |argument, mask, value| {
        let condition = SeccompCondition::new(argument, Dword, MaskedEq(mask), value)?;
        SeccompRule::new(vec![condition])
    };
    // The module's requests.
    rules.insert(libc::SYS_ioctl, vec![only(1, 0xff00, 0xb600)?]);
    // No code comes into being.
    let executable = libc::PROT_EXEC as u64;
    rules.insert(libc::SYS_mmap, vec![only(2, executable, 0)?]);
    rules.insert(libc::SYS_mprotect, vec![only(2, executable, 0)?]);
    // Names of threads.
    rules.insert(libc::SYS_prctl, vec![only(0, 0xffff_ffff, libc::PR_SET_NAME as u64)?]);
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
    Ok(BpfProgram::try_from(filter)?)
}
