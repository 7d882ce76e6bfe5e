//! What listing read the last time, so that it need not open what has not changed since.
//!
//! ```text
//! $COCKER_HOME/images.cache
//!   cocker images 1 <checksum>
//!   <name> <stamp> [<version> <stamp> <modified> <size> <origin> <layer>,<layer>,…]…        sorted by name
//! ```
//!
//! A *stamp* is the inode, change time and size of a folder of versions, or of a record. The kernel changes it with every
//! entry that comes or goes and with every write, so an entry is right while its stamps are, whoever changes the store,
//! and a cache that is missing, damaged, or older than the store costs time alone. What changed within the last second is
//! not kept: the clock of change times may not have moved on since.
//! Nothing that decides what may be removed reads it.

use super::catalogue::LATEST;
use super::{ImageRecord, Origin, Store};
use crate::descent::{is_named, open_beneath};
use crate::{LayerId, Name, Version};
use cocker_sys::fault;
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, ftruncate, openat, renameat, statat,
};
use rustix::io::Errno;
use std::fmt::Write as _;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::str::Split;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FILE: &str = "images.cache";
const STAGED: &str = ".new-images.cache";
const HEAD: &str = "cocker images 1 ";

/// Two changes within one step of the kernel's clock, at most 10 ms, bear the same time.
const STEP: Duration = Duration::from_secs(1);

/// The cache as it was read: nothing in it is believed before its stamps are seen to hold.
#[derive(Default)]
pub(super) struct Cache {
    text: String,
    lines: Vec<Line>,
}

/// Where a line and its name lie in the text.
struct Line {
    begin: usize,
    name_end: usize,
    end: usize,
}

/// The way through a cache, whose lines stand in the names' order, too.
pub(super) struct Reading<'a> {
    cache: &'a Cache,
    /// The first line that may be of a name still to come; none before the first name.
    next: Option<usize>,
}

/// What tells one state of a file or folder from another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: u64,
    size: u64,
}

/// The moment before which a change is old enough to be kept.
#[derive(Clone, Copy)]
pub(super) struct Old {
    seconds: i64,
}

/// The line of one name, while it is written.
pub(super) struct Entry(String);

impl Cache {
    /// Reads the cache; empty where there is none that is whole.
    pub fn load(store: &Store) -> Cache {
        Cache::read(store).unwrap_or_default()
    }

    fn read(store: &Store) -> Option<Cache> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = open_beneath(store.folder(), c"images.cache", flags).ok()?;
        let mut file = File::from(file);
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        let (head, body) = text.strip_prefix(HEAD)?.split_once('\n')?;
        if head != checksum(body) {
            tracing::debug!("the cache of images is damaged and will be made anew");
            return None;
        }
        let begin = text.len() - body.len();
        let lines = body.lines().scan(begin, |begin, line| {
            let name = line.find(' ').unwrap_or(line.len());
            let place = Line {
                begin: *begin,
                name_end: *begin + name,
                end: *begin + line.len(),
            };
            *begin = place.end + 1;
            Some(place)
        });
        let lines = lines.collect();
        Some(Cache { text, lines })
    }

    /// Goes through the lines for names that come in their order.
    pub fn reading(&self) -> Reading<'_> {
        Reading {
            cache: self,
            next: None,
        }
    }

    fn name(&self, line: &Line) -> &str {
        &self.text[line.begin..line.name_end]
    }

    /// Puts new lines, in the names' order, in the place of the cache. What fails costs time only, the next time.
    pub fn write<'a>(store: &Store, lines: impl Iterator<Item = &'a str>) {
        match Cache::replace(store.folder(), lines) {
            Ok(()) => tracing::debug!("wrote the cache of images"),
            Err(errno) => tracing::debug!(%errno, "cannot write the cache of images"),
        }
    }

    fn replace<'a>(
        home: BorrowedFd<'_>,
        lines: impl Iterator<Item = &'a str>,
    ) -> Result<(), Errno> {
        let mut body = String::new();
        for line in lines {
            body.push_str(line);
            body.push('\n');
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || openat(home, STAGED, flags, Mode::RUSR | Mode::WUSR);
        let file = fault::step("cache.make", make)?;
        // One writes, and the others need not; what a dead one left is taken over.
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        if !is_named(home, c".new-images.cache", file.as_fd())? {
            return Err(Errno::AGAIN);
        }
        ftruncate(&file, 0)?;
        let head = format!("{HEAD}{}\n", checksum(&body));
        let mut file = File::from(file);
        file.write_all(head.as_bytes())
            .and_then(|()| file.write_all(body.as_bytes()))
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        fault::step("cache.rename", || renameat(home, STAGED, home, FILE))
    }
}

impl<'a> Reading<'a> {
    /// The images of a name, by version, where nothing has changed in `images`, and their line. Names come sorted.
    pub fn images(
        &mut self,
        images: BorrowedFd<'_>,
        name: &Name,
    ) -> Option<(Vec<ImageRecord>, &'a str)> {
        let line = self.line(name)?;
        let mut words = line.split(' ');
        words.next();
        if Stamp::parse(&mut words)? != Stamp::of(images, name.as_str())? {
            return None;
        }
        let mut found = Vec::with_capacity(1);
        let mut path = String::new();
        while let Some(version) = words.next() {
            let stamp = Stamp::parse(&mut words)?;
            path.clear();
            for part in [name.as_str(), "/", version, "/image.json"] {
                path.push_str(part);
            }
            if stamp != Stamp::of(images, &path)? {
                return None;
            }
            found.push(record(name, version, &mut words)?);
        }
        Some((found, line))
    }

    fn line(&mut self, name: &Name) -> Option<&'a str> {
        let Cache { text, lines } = self.cache;
        let is_before = |line: &Line| self.cache.name(line) < name.as_str();
        let mut next = match self.next {
            Some(next) => next,
            None => lines.partition_point(is_before),
        };
        while lines.get(next).is_some_and(is_before) {
            next += 1;
        }
        self.next = Some(next);
        let line = lines.get(next)?;
        (self.cache.name(line) == name.as_str()).then(|| &text[line.begin..line.end])
    }
}

impl Stamp {
    /// Of what `path` names below `folder`; `None` where there is nothing.
    pub fn of(folder: BorrowedFd<'_>, path: &str) -> Option<Stamp> {
        let stat = statat(folder, path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(Stamp {
            inode: stat.st_ino,
            seconds: stat.st_ctime,
            nanoseconds: stat.st_ctime_nsec,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
        })
    }

    fn parse(words: &mut Split<'_, char>) -> Option<Stamp> {
        Some(Stamp {
            inode: words.next()?.parse().ok()?,
            seconds: words.next()?.parse().ok()?,
            nanoseconds: words.next()?.parse().ok()?,
            size: words.next()?.parse().ok()?,
        })
    }

    fn write(&self, line: &mut String) {
        let Stamp {
            inode,
            seconds,
            nanoseconds,
            size,
        } = self;
        let _ = write!(line, " {inode} {seconds} {nanoseconds} {size}");
    }
}

impl Old {
    pub fn now() -> Old {
        let limit = SystemTime::now().checked_sub(STEP);
        let seconds = limit.and_then(|limit| limit.duration_since(UNIX_EPOCH).ok());
        Old {
            seconds: seconds.map_or(0, |since| since.as_secs() as i64),
        }
    }

    fn has_seen(self, stamp: Stamp) -> bool {
        stamp.seconds < self.seconds
    }
}

impl Entry {
    /// The line of a name whose folder has this stamp; `None` where that is too new.
    pub fn begin(name: &Name, stamp: Stamp, old: Old) -> Option<Entry> {
        let mut line = String::from(name.as_str());
        stamp.write(&mut line);
        old.has_seen(stamp).then_some(Entry(line))
    }

    /// Adds an image whose record has this stamp; `None` where that is too new, or where the record says more than a line
    /// has room for.
    pub fn with(mut self, image: &ImageRecord, stamp: Stamp, old: Old) -> Option<Entry> {
        if image.config.is_some() {
            return None;
        }
        let modified = image.modified.duration_since(UNIX_EPOCH).ok()?.as_secs();
        let line = &mut self.0;
        let _ = write!(line, " {}", image.version);
        stamp.write(line);
        let origin = match image.origin {
            None => "-",
            Some(Origin::HostPrograms) => "host",
        };
        let _ = write!(line, " {modified} {} {origin} ", image.size);
        for (index, layer) in image.layers.iter().enumerate() {
            line.push_str(if index > 0 { "," } else { "" });
            line.push_str(layer.as_str());
        }
        old.has_seen(stamp).then_some(self)
    }

    pub fn finish(self) -> String {
        self.0
    }
}

fn record(name: &Name, version: &str, words: &mut Split<'_, char>) -> Option<ImageRecord> {
    let version = Version::parse(version).ok()?;
    let modified = words.next()?.parse().ok().filter(|it| *it <= LATEST)?;
    let size = words.next()?.parse().ok()?;
    let origin = match words.next()? {
        "-" => None,
        "host" => Some(Origin::HostPrograms),
        _ => return None,
    };
    let layers = words.next()?.split(',').map(LayerId::parse);
    Some(ImageRecord {
        name: name.clone(),
        version,
        layers: layers.collect::<Result<_, _>>().ok()?,
        modified: UNIX_EPOCH + Duration::from_secs(modified),
        size,
        origin,
        config: None,
    })
}

/// Against what a crash or a full disk leaves; whoever could put something else here has the whole store.
fn checksum(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    format!("{:016x}", hasher.finish())
}
