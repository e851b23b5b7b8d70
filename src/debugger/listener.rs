//! Where a client finds us: a TCP port of this host, or a Unix socket.

use super::DebuggerError;
use super::error::Result;
use crate::sys::program::duplicate_above;
use crate::text::shown;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long to wait for a client's next word before looking around.
pub(super) const PATIENCE: Duration = Duration::from_millis(10);

/// How long a client may leave an answer unread.
const WRITE_TIME: Duration = Duration::from_secs(10);

/// Where a client finds us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP port of this host, reached from this host only; 0 is any that is free.
    Port(u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A socket that clients call.
pub(super) enum Listener {
    /// At a port.
    Tcp(TcpListener),
    /// At a path.
    Unix(UnixListener, PathBuf),
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = self {
            // If it is gone already, somebody else has removed it.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listener::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(_) => write!(f, "a port"),
            },
            Listener::Unix(_, path) => write!(f, "{}", shown(path)),
        }
    }
}

impl Listener {
    pub fn bind(address: &Address) -> Result<Listener> {
        let refused = DebuggerError::Listen;
        match address {
            Address::Port(port) => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).map_err(refused)?;
                listener.set_nonblocking(true).map_err(refused)?;
                Ok(Listener::Tcp(listener))
            }
            Address::Unix(path) => {
                let listener = UnixListener::bind(path).map_err(|source| match is_stale(path, &source) {
                    true => DebuggerError::StaleSocket(path.clone()),
                    false => refused(source),
                })?;
                listener.set_nonblocking(true).map_err(refused)?;
                Ok(Listener::Unix(listener, path.clone()))
            }
        }
    }

    /// Takes the first client that calls, or waits a moment for one.
    pub fn accept(&self) -> Result<Option<Box<dyn Stream>>> {
        let stream: io::Result<Box<dyn Stream>> = match self {
            Listener::Tcp(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(WRITE_TIME))?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
            Listener::Unix(listener, _) => listener.accept().and_then(|(stream, _)| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(WRITE_TIME))?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            }),
        };
        match stream {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if is_patience(&error) => {
                std::thread::sleep(PATIENCE);
                Ok(None)
            }
            Err(error) => Err(DebuggerError::Talk(error)),
        }
    }
}

/// Whether `refused` says that there is a socket at `path`, and nobody listens at it: its process was killed before
/// it could remove it.
fn is_stale(path: &Path, refused: &io::Error) -> bool {
    use std::os::unix::fs::FileTypeExt;
    refused.kind() == ErrorKind::AddrInUse
        && path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket())
        && UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// What both kinds of sockets can do.
pub(super) trait Stream: Read + Write + Send {
    /// The same by a descriptor of `lowest` or more, and its number.
    fn out_of_reach(self: Box<Self>, lowest: RawFd) -> io::Result<(Box<dyn Stream>, RawFd)>;

    /// Whether a read waits for a while, or only takes what is there.
    fn wait(&self, wait: bool) -> io::Result<()>;

    /// Reads what has come, and says how many bytes that is: 0 at the end. `None` if nothing has come in time.
    fn receive(&mut self, bytes: &mut [u8], wait: bool) -> io::Result<Option<usize>> {
        self.wait(wait)?;
        let received = self.read(bytes);
        // Answers are written whole, however long that takes.
        self.wait(true)?;
        match received {
            Ok(count) => Ok(Some(count)),
            Err(error) if is_patience(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The same socket by a descriptor of `lowest` or more.
fn moved(stream: &impl AsFd, lowest: RawFd) -> io::Result<(OwnedFd, RawFd)> {
    let moved = duplicate_above(stream.as_fd(), lowest)?;
    let number = moved.as_raw_fd();
    Ok((moved, number))
}

impl Stream for TcpStream {
    fn out_of_reach(self: Box<Self>, lowest: RawFd) -> io::Result<(Box<dyn Stream>, RawFd)> {
        moved(&*self, lowest).map(|(fd, number)| (Box::new(TcpStream::from(fd)) as Box<dyn Stream>, number))
    }

    fn wait(&self, wait: bool) -> io::Result<()> {
        self.set_nonblocking(!wait)
    }
}

impl Stream for UnixStream {
    fn out_of_reach(self: Box<Self>, lowest: RawFd) -> io::Result<(Box<dyn Stream>, RawFd)> {
        moved(&*self, lowest).map(|(fd, number)| (Box::new(UnixStream::from(fd)) as Box<dyn Stream>, number))
    }

    fn wait(&self, wait: bool) -> io::Result<()> {
        self.set_nonblocking(!wait)
    }
}

/// Nothing has come yet; that is no failure.
fn is_patience(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
