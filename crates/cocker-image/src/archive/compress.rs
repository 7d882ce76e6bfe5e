//! Compresses archives with all processors; the bytes do not depend on how many there are.
//!
//! gzip: members of 1 MiB each, in their order. zstd: one frame, by zstd's own workers in jobs of fixed size.

use super::Compression;
use flate2::{Compress, Crc, FlushCompress, Status};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use zstd::zstd_safe::CParameter;

/// Bytes of input in one member or job.
const PART: usize = 1 << 20;
/// More threads do not get more memory.
const MOST_THREADS: usize = 16;
const GZIP_LEVEL: u32 = 6;
/// What is looked at to see whether a part gets smaller: so many pieces, of so many bytes.
const SAMPLES: usize = 8;
const SAMPLE: usize = 4096;
const ZSTD_LEVEL: i32 = 3;
/// How far back a job looks into the one before it: an eighth of the window (zstd_compression_parameters, overlapLog).
const ZSTD_OVERLAP: u32 = 6;
/// "Unknown" (RFC 1952, section 2.3.1): who packed is nobody's business, and the bytes shall be the same everywhere.
const GZIP_SYSTEM: u8 = 255;
/// Bytes of a member around its stream.
const FRAME: usize = 18;

/// Compresses what is written to it into a writer of its own.
pub struct Compressor<W: Write + Send + 'static>(Kind<W>);

enum Kind<W: Write + Send + 'static> {
    AsItIs(W),
    Gzip(Gzip<W>),
    Zstd(Box<zstd::Encoder<'static, W>>),
}

/// Compresses into `to` with as many threads as there are processors, at most 16.
///
/// # Errors
/// `Unsupported` for xz, which is only read.
pub fn compress<W: Write + Send + 'static>(
    to: W,
    compression: Compression,
) -> io::Result<Compressor<W>> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    with_threads(to, compression, processors.min(MOST_THREADS))
}

pub(super) fn with_threads<W: Write + Send + 'static>(
    to: W,
    compression: Compression,
    threads: usize,
) -> io::Result<Compressor<W>> {
    Ok(Compressor(match compression {
        Compression::None => Kind::AsItIs(to),
        Compression::Gzip => Kind::Gzip(Gzip::start(to, threads)?),
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(to, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            // With no worker zstd cuts otherwise than with any number of them.
            encoder.multithread(u32::try_from(threads).unwrap_or(1).max(1))?;
            encoder.set_parameter(CParameter::JobSize(PART as u32))?;
            encoder.set_parameter(CParameter::OverlapSizeLog(ZSTD_OVERLAP))?;
            Kind::Zstd(Box::new(encoder))
        }
        Compression::Xz => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "xz is only read, not written",
            ));
        }
    }))
}

impl<W: Write + Send + 'static> Compressor<W> {
    /// Writes what is left and the end; without it the file is truncated.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Kind::AsItIs(mut to) => {
                to.flush()?;
                Ok(to)
            }
            Kind::Gzip(gzip) => gzip.finish(),
            Kind::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write + Send + 'static> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::AsItIs(to) => to.write(bytes),
            Kind::Gzip(gzip) => gzip.write(bytes),
            Kind::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Passes on what is compressed. It does not cut members or frames, which would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::AsItIs(to) => to.flush(),
            Kind::Gzip(gzip) => gzip.to.flush(),
            Kind::Zstd(encoder) => encoder.get_mut().flush(),
        }
    }
}

/// One part to compress, a buffer for its member, and where both go.
struct Job {
    part: Vec<u8>,
    member: Vec<u8>,
    done: Sender<Done>,
}

/// A part that was compressed. Both buffers are used again: memory that is new costs more than what is done with it.
struct Done {
    part: Vec<u8>,
    member: io::Result<Vec<u8>>,
}

struct Gzip<W> {
    to: W,
    part: Vec<u8>,
    /// `None` once no more jobs come.
    jobs: Option<SyncSender<Job>>,
    /// The members that are not written yet, in their order.
    members: VecDeque<Receiver<Done>>,
    most_members: usize,
    workers: Vec<JoinHandle<()>>,
    is_empty: bool,
    /// Buffers that were used, of a part and of a member.
    used: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<W: Write> Gzip<W> {
    fn start(to: W, threads: usize) -> io::Result<Gzip<W>> {
        let (jobs, queue) = sync_channel(1);
        let queue = Arc::new(Mutex::new(queue));
        let mut workers = Vec::new();
        for _ in 0..threads.max(1) {
            let queue = Arc::clone(&queue);
            let worker = thread::Builder::new().name("compress".into());
            workers.push(worker.spawn(move || work(&queue))?);
        }
        Ok(Gzip {
            to,
            part: Vec::with_capacity(PART),
            jobs: Some(jobs),
            members: VecDeque::new(),
            most_members: threads + 1,
            workers,
            is_empty: true,
            used: Vec::new(),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(PART - self.part.len());
        self.part.extend_from_slice(&bytes[..length]);
        if self.part.len() == PART {
            self.hand_over()?;
        }
        Ok(length)
    }

    fn finish(mut self) -> io::Result<W> {
        // A file without any member would be no gzip file.
        if self.is_empty || !self.part.is_empty() {
            self.hand_over()?;
        }
        while !self.members.is_empty() {
            self.write_member()?;
        }
        self.jobs = None;
        for worker in self.workers {
            worker
                .join()
                .map_err(|_| io::Error::other("a compressing thread has died"))?;
        }
        self.to.flush()?;
        Ok(self.to)
    }

    /// Gives the part to a worker; before that, writes the oldest member if enough are under way.
    fn hand_over(&mut self) -> io::Result<()> {
        if self.members.len() >= self.most_members {
            self.write_member()?;
        }
        let (next, member) = self.used.pop().unwrap_or_else(|| {
            // The longest member: of what gets no smaller there are blocks of their own, 65,535 bytes each at most.
            let member = Vec::with_capacity(PART + PART / 1024 + 64);
            (Vec::with_capacity(PART), member)
        });
        let part = std::mem::replace(&mut self.part, next);
        let (done, receiver) = channel();
        let jobs = self.jobs.as_ref().expect("jobs come until the end");
        let job = Job { part, member, done };
        jobs.send(job).map_err(|_| dead())?;
        self.members.push_back(receiver);
        self.is_empty = false;
        Ok(())
    }

    fn write_member(&mut self) -> io::Result<()> {
        let Some(member) = self.members.pop_front() else {
            return Ok(());
        };
        let Done { mut part, member } = member.recv().map_err(|_| dead())?;
        let mut member = member?;
        self.to.write_all(&member)?;
        part.clear();
        member.clear();
        self.used.push((part, member));
        Ok(())
    }
}

/// The life of a worker.
fn work(queue: &Mutex<Receiver<Job>>) {
    let mut packer = MemberPacker::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job {
            part,
            mut member,
            done,
        }) = job
        else {
            return;
        };
        let member = packer.pack(&part, &mut member).map(|()| member);
        // Nobody waits for the member when writing has failed.
        _ = done.send(Done { part, member });
    }
}

/// Makes members, without a time or a name (RFC 1952, section 2.3), with the same memory for each.
struct MemberPacker {
    /// At [`GZIP_LEVEL`].
    smaller: Compress,
    /// At level 0: blocks as they are.
    stored: Compress,
    /// What samples become.
    sample: Vec<u8>,
}

impl MemberPacker {
    fn new() -> MemberPacker {
        let at = |level| Compress::new(flate2::Compression::new(level), false);
        MemberPacker {
            smaller: at(GZIP_LEVEL),
            stored: at(0),
            sample: Vec::with_capacity(2 * SAMPLE),
        }
    }

    /// Adds the member of `part` to `member`.
    fn pack(&mut self, part: &[u8], member: &mut Vec<u8>) -> io::Result<()> {
        // Deflated, no flags, no time, neither the best nor the fastest.
        member.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, GZIP_SYSTEM]);
        match self.gets_smaller(part)? {
            true => deflate(&mut self.smaller, part, member)?,
            false => deflate(&mut self.stored, part, member)?,
        }
        let mut crc = Crc::new();
        crc.update(part);
        member.extend_from_slice(&crc.sum().to_le_bytes());
        member.extend_from_slice(&crc.amount().to_le_bytes());
        Ok(())
    }

    /// Whether it is worth the time: what is compressed or encrypted already takes the longest and gets no smaller. Samples
    /// from all over the part tell; one of them that gets smaller is enough.
    fn gets_smaller(&mut self, part: &[u8]) -> io::Result<bool> {
        if part.len() < SAMPLES * SAMPLE {
            return Ok(true);
        }
        for number in 0..SAMPLES {
            let begin = (part.len() - SAMPLE) / (SAMPLES - 1) * number;
            self.sample.clear();
            deflate(
                &mut self.smaller,
                &part[begin..begin + SAMPLE],
                &mut self.sample,
            )?;
            // A hundredth is the price of not looking closer.
            if FRAME + self.sample.len() < SAMPLE - SAMPLE / 100 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Adds the whole stream (RFC 1951) of these bytes to `into`.
fn deflate(compress: &mut Compress, bytes: &[u8], into: &mut Vec<u8>) -> io::Result<()> {
    compress.reset();
    loop {
        let taken = usize::try_from(compress.total_in()).expect("it is no more than there is");
        let status = compress.compress_vec(&bytes[taken..], into, FlushCompress::Finish);
        match status.map_err(io::Error::other)? {
            Status::StreamEnd => return Ok(()),
            Status::Ok | Status::BufError => into.reserve(SAMPLE),
        }
    }
}

fn dead() -> io::Error {
    io::Error::other("the compressing threads have died")
}
