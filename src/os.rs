//! The system calls that need `unsafe`: process hardening, locks, free space, other processes.
#![allow(
    unsafe_code,
    reason = "STYLE: unsafe stands here, in the change capture and in the driver alone"
)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Lets go of what memory holds of a file, so that it is read from the disk. What is not on the disk yet
/// stays; a system that does not listen does no harm.
pub fn forget_pages(file: &File) {
    // SAFETY: the call takes numbers alone, and the descriptor is open.
    let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// Bytes that an unprivileged process may still write on the file system of `path`.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` ends with NUL, and `stat` is as large as the call expects.
    let done = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it filled the structure.
    let stat = unsafe { stat.assume_init() };
    #[allow(
        clippy::unnecessary_cast,
        reason = "the fields' widths differ between targets"
    )]
    Ok((stat.f_bavail as u64).saturating_mul(stat.f_frsize as u64))
}

/// Gives a file `bytes` on the disk, not just a length.
pub fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as `file` is borrowed.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Gives each of two files or folders the other's name, at one instant.
pub fn exchange(path: &Path, other: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let other = CString::new(other.as_os_str().as_bytes())?;
    // SAFETY: both texts end with NUL.
    let done = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// No core dump, no tracer that is not root, files for nobody else.
pub fn harden() -> io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: plain values, and a structure that outlives the call.
    let done = unsafe {
        libc::umask(0o077);
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) | libc::setrlimit(libc::RLIMIT_CORE, &none)
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Raises the soft limit of open files to the hard one; returns it.
pub fn raise_open_files() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure outlives both calls.
    let done = unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
        } else {
            -1
        }
    };
    if done == 0 {
        Ok(limit.rlim_cur)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Keeps the pages of `what` out of swap. It must stay where it is.
pub fn lock_memory<T>(what: &[T]) -> io::Result<()> {
    // SAFETY: the range is that of a live slice; locking does not change it.
    let done = unsafe { libc::mlock(what.as_ptr().cast(), size_of_val(what)) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Undoes `lock_memory`, for whatever else lies on these pages, too.
pub fn unlock_memory<T>(what: &[T]) -> io::Result<()> {
    // SAFETY: the range is that of a live slice; unlocking does not change it.
    let done = unsafe { libc::munlock(what.as_ptr().cast(), size_of_val(what)) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Takes the file's lock for this process; false if another one has it.
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: the descriptor is open as long as `file` is borrowed.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        held if held.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// Ends a process group of ours (SIGKILL), if there is one.
pub fn kill_group(leader: u32) {
    let Ok(leader) = libc::pid_t::try_from(leader) else {
        return;
    };
    if leader > 1 {
        // SAFETY: takes plain values; the group's number is that of a child which led it.
        unsafe { libc::kill(-leader, libc::SIGKILL) };
    }
}

/// The process at the other end of a socket, as the kernel knows it here; 0 if it is none of this
/// process's namespace.
pub fn peer_pid(stream: &UnixStream) -> io::Result<u32> {
    let mut who = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length =
        libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as `stream` is borrowed; the structure is as long as said.
    let got = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut who).cast(),
            &mut length,
        )
    };
    match got {
        0 => Ok(u32::try_from(who.pid).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Another process, which stays the one that was meant, even if its number is given away again.
pub struct Process(OwnedFd);

impl Process {
    /// None: there is no such process.
    pub fn find(pid: u32) -> io::Result<Option<Self>> {
        // SAFETY: takes numbers alone, and gives a new descriptor or an error.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return match io::Error::last_os_error() {
                gone if gone.raw_os_error() == Some(libc::ESRCH) => Ok(None),
                error => Err(error),
            };
        }
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the call gave it to this process alone.
        Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) -> io::Result<()> {
        // SAFETY: the descriptor is open; without a structure the signal is as kill(2) sends it.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                libc::SIGTERM,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match sent {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for its end; false if it still runs then.
    pub fn ended_within(&self, time: Duration) -> io::Result<bool> {
        let mut waiting = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one structure, which outlives the call.
        match unsafe { libc::poll(&mut waiting, 1, millis) } {
            -1 => Err(io::Error::last_os_error()),
            ready => Ok(ready > 0),
        }
    }
}

/// Lets a program that is to be started outlive its terminal and whoever starts it.
pub fn detach(command: &mut Command) {
    // SAFETY: between fork and exec, setsid(2) is allowed; it touches no memory.
    unsafe {
        command.pre_exec(|| match libc::setsid() {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
}

/// The effective user of this process.
pub fn effective_uid() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

/// Host names come from /etc/hosts and DNS alone: a static program must not load the modules that
/// nsswitch.conf may name. Nothing to do where the C library is not glibc.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub fn pin_name_service() {
    unsafe extern "C" {
        fn __nss_configure_lookup(
            db: *const libc::c_char,
            service: *const libc::c_char,
        ) -> libc::c_int;
    }
    // SAFETY: both texts end with NUL, and glibc copies what it keeps.
    unsafe {
        __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr());
    }
}

#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub fn pin_name_service() {}
