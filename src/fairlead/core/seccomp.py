"""Seccomp: which system calls a container may make.

    profile(capabilities, machine) -> the ``seccomp`` part of a runtime configuration (OCI)
    from_docker(json, …)           -> the same from a profile the user gave (``--security-opt seccomp=``)

The default is an allow list: what ordinary programs need, plus what each
capability is good for. Everything else answers EPERM, and ``clone3`` answers
ENOSYS, so that C libraries fall back to ``clone``, whose flags can be checked:
a filter cannot look behind clone3's pointer.

Rules
    1. A call is listed once, under the reason why it is allowed.
    2. New namespaces and mounts need CAP_SYS_ADMIN. AF_VSOCK is never allowed
       (it reaches the hypervisor). io_uring is not allowed: its operations
       are not seen by a filter.
    3. 32-bit programs run too; their calls are in the same list.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from fairlead.errors import Invalid

EPERM, ENOSYS = 1, 38

_ALWAYS = {
    "files": """_llseek access cachestat chdir chmod chown chown32 close close_range copy_file_range creat dup
        dup2 dup3 faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2
        fchown fchown32 fchownat fcntl fcntl64 fdatasync flock fstat fstat64 fstatat64 fstatfs fstatfs64
        fsync ftruncate ftruncate64 futimesat getcwd getdents getdents64 lchown lchown32 link linkat
        lseek lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2
        pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv rename
        renameat renameat2 rmdir sendfile sendfile64 splice stat stat64 statfs statfs64 statx symlink
        symlinkat sync sync_file_range syncfs tee truncate truncate64 umask unlink unlinkat utime
        utimensat utimensat_time64 utimes vmsplice write writev""",
    "attributes": """fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat
        llistxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat""",
    "watching": """_newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
        epoll_wait epoll_wait_old eventfd eventfd2 fanotify_mark inotify_add_watch inotify_init
        inotify_init1 inotify_rm_watch poll ppoll ppoll_time64 pselect6 pselect6_time64 select signalfd
        signalfd4""",
    "asynchronous": "io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit",
    "memory": """brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall
        mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free
        pkey_mprotect process_mrelease remap_file_pages""",
    "processes": """capget capset execve execveat exit exit_group fork get_thread_area getcpu getpgid getpgrp getpid
        getppid getpriority getsid gettid ioprio_get ioprio_set kill landlock_add_rule
        landlock_create_ruleset landlock_restrict_self pause pidfd_open pidfd_send_signal prctl
        prlimit64 process_vm_readv process_vm_writev ptrace restart_syscall rseq rt_sigaction
        rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
        rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
        sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval
        sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
        sched_yield seccomp set_thread_area set_tid_address setpgid setpriority setsid sigaction
        sigaltstack signal sigpending sigprocmask sigreturn sigsuspend tgkill tkill vfork wait4 waitid
        waitpid""",
    "locks": "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake get_robust_list set_robust_list",
    "users": """getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32
        getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
        setgroups setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
        setreuid32 setuid setuid32""",
    "limits": "getrlimit getrusage setrlimit sysinfo times ugetrlimit uname",
    "pipes and messages": """ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
        mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd pipe pipe2 semctl semget semop
        semtimedop semtimedop_time64 shmat shmctl shmdt shmget""",
    "network": """accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg
        recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair""",
    "time": """adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
        clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep
        setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64
        timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
        timerfd_settime64""",
    "devices and chance": "getrandom ioctl",
}

_WITH = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": """bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr
        move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
        umount umount2 unshare""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

_ON = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
    "ppc64le": "sync_file_range2 swapcontext",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    "riscv64": "riscv_flush_icache",
}

_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
}
_DOCKER_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}

NEW_NAMESPACES = 0x7E020000
"""clone(2) flags that make namespaces (mount, cgroup, uts, ipc, user, pid, net)."""
AF_VSOCK = 40
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux, 32-bit, without address randomisation, both, and asking."""


def profile(capabilities: Collection[str], machine: str) -> dict[str, Any]:
    """The default profile for a process with these capabilities on ``machine`` (``uname -m``), as OCI JSON."""
    groups = [*_ALWAYS.values(), _ON.get(machine, "")]
    groups += [calls for capability, calls in _WITH.items() if capability in capabilities]
    names = sorted({name for group in groups for name in group.split()})
    rules: list[dict[str, Any]] = [_rule(names)]
    rules += [_rule(["personality"], [_argument(0, value, "SCMP_CMP_EQ")]) for value in PERSONALITIES]
    rules.append(_rule(["socket"], [_argument(0, AF_VSOCK, "SCMP_CMP_NE")]))
    if "CAP_SYS_ADMIN" not in capabilities:
        flags = 1 if machine == "s390x" else 0
        unmasked = {"index": flags, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
        rules.append(_rule(["clone"], [unmasked]))
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": list(_ARCHITECTURES.get(machine, ())),
        "syscalls": rules,
    }


def _rule(names: list[str], arguments: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"names": names, "action": "SCMP_ACT_ALLOW", **({"args": arguments} if arguments else {})}


def _argument(index: int, value: int, operator: str) -> dict[str, Any]:
    return {"index": index, "value": value, "op": operator}


def from_docker(
    given: Mapping[str, Any], capabilities: Collection[str], machine: str, kernel: tuple[int, int] = (4, 8)
) -> dict[str, Any]:
    """A user's profile in Docker's form, with its conditions decided; ``Invalid`` when it is not a profile."""
    if not isinstance(given, Mapping) or not given.get("defaultAction"):
        raise Invalid("Decoding seccomp profile failed: defaultAction is missing")
    rules = [_carry(item) for item in given.get("syscalls") or () if _applies(item, capabilities, machine, kernel)]
    settled = {
        "defaultAction": given["defaultAction"],
        "architectures": list(given.get("architectures") or _mapped(given.get("archMap") or (), machine)),
        "syscalls": rules,
    }
    for key in ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata"):
        if given.get(key) is not None:
            settled[key] = given[key]
    return settled


def _mapped(architectures: Iterable[Mapping[str, Any]], machine: str) -> Iterator[str]:
    ours = _ARCHITECTURES.get(machine, ("",))[0]
    for item in architectures:
        if item.get("architecture") == ours:
            yield ours
            yield from item.get("subArchitectures") or ()


def _carry(item: Mapping[str, Any]) -> dict[str, Any]:
    names = list(item.get("names") or ([item["name"]] if item.get("name") else []))
    kept = {key: item[key] for key in ("action", "args", "errnoRet") if item.get(key)}
    return {"names": names, **kept}


def _applies(item: Mapping[str, Any], capabilities: Collection[str], machine: str, kernel: tuple[int, int]) -> bool:
    includes, excludes = item.get("includes") or {}, item.get("excludes") or {}
    ours = _DOCKER_ARCHITECTURE.get(machine, machine)
    if any(capability not in capabilities for capability in includes.get("caps") or ()):
        return False
    if includes.get("arches") and ours not in includes["arches"]:
        return False
    if includes.get("minKernel") and kernel < _version(includes["minKernel"]):
        return False
    if any(capability in capabilities for capability in excludes.get("caps") or ()):
        return False
    if ours in (excludes.get("arches") or ()):
        return False
    return not (excludes.get("minKernel") and kernel >= _version(excludes["minKernel"]))


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)
