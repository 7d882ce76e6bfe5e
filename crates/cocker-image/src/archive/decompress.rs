//! Reads compressed archives; decoding has its own thread, so that it goes on while files are written.
//!
//! ```text
//! file ──▶ decoder ──full buffers──▶ reader          four buffers of 256 KiB in all;
//!                  ◀─empty buffers──                 an error comes after the bytes before it
//! ```
//!
//! A file may be several gzip members, zstd frames or xz streams one after the other: all of them are read. Bytes
//! after them that are neither are an error, since another reader might see more or fewer files.

use super::Compression;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

const BUFFER: usize = 256 * 1024;
const BUFFERS: usize = 4;
/// Compressed bytes read at once.
const INPUT: usize = 64 * 1024;
/// The largest window of zstd as a power of two: what `zstd` itself reads without being asked to take more, 128 MiB.
const ZSTD_WINDOW: u32 = 27;
/// The most memory for xz in KiB; `xz -9` needs 65 MiB.
const XZ_MEMORY: u32 = 128 * 1024;

/// Why compressed bytes could not be read; inside the `io::Error` that the reader gives.
#[derive(Debug, thiserror::Error)]
#[error("cannot decompress {compression} data at offset {offset}")]
struct DecompressError {
    compression: Compression,
    /// In the compressed bytes; not further than one buffer behind the fault.
    offset: u64,
    #[source]
    source: io::Error,
}

type Source = Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;
type Filled = io::Result<Vec<u8>>;

/// The decompressed bytes of a file.
pub struct Decompressed {
    compression: Compression,
    bytes: Bytes,
}

enum Bytes {
    AsTheyAre(Source),
    Decoded(Decoded),
}

/// The reader's end of a decoder.
struct Decoded {
    filled: Receiver<Filled>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
}

/// Recognises how a file is compressed and reads it.
///
/// # Errors
/// Those of reading the first bytes. What is wrong further on comes from the reader: `UnexpectedEof` where the file is truncated.
pub fn decompress(from: impl Read + Send + 'static) -> io::Result<Decompressed> {
    let mut from: Box<dyn Read + Send> = Box::new(from);
    let mut start = Vec::with_capacity(Compression::MAGIC);
    (&mut from)
        .take(Compression::MAGIC as u64)
        .read_to_end(&mut start)?;
    let compression = Compression::recognise(&start);
    let source = Cursor::new(start).chain(from);
    let bytes = match compression {
        Compression::None => Bytes::AsTheyAre(source),
        _ => Bytes::Decoded(Decoded::start(source, compression)?),
    };
    Ok(Decompressed { compression, bytes })
}

impl Decompressed {
    pub fn compression(&self) -> Compression {
        self.compression
    }
}

impl Read for Decompressed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.bytes {
            Bytes::AsTheyAre(source) => source.read(into),
            Bytes::Decoded(decoded) => decoded.read(into),
        }
    }
}

impl Decoded {
    fn start(source: Source, compression: Compression) -> io::Result<Decoded> {
        let (to_fill, empty) = sync_channel(BUFFERS);
        let (to_read, filled) = sync_channel(BUFFERS);
        for _ in 0..BUFFERS {
            let fits = to_fill.send(Vec::new());
            fits.expect("the channel is as long as there are buffers, and its other end is here");
        }
        // Nobody joins it: it ends when it next has a buffer to hand over or to take, and whoever drops the
        // reader does not wait for a source that is slow to give its next bytes.
        thread::Builder::new()
            .name("decompress".into())
            .spawn(move || decode(source, compression, &empty, &to_read))?;
        Ok(Decoded {
            filled,
            empty: to_fill,
            current: Vec::new(),
            position: 0,
        })
    }
}

impl Read for Decoded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() {
            let used = std::mem::take(&mut self.current);
            // The decoder may have ended; then nobody needs the buffer.
            _ = self.empty.send(used);
            self.position = 0;
            match self.filled.recv() {
                Ok(filled) => self.current = filled?,
                // The decoder has come to the end of the file.
                Err(_) => return Ok(0),
            }
        }
        let rest = &self.current[self.position..];
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        self.position += length;
        Ok(length)
    }
}

/// The life of the decoder's thread.
fn decode(
    source: Source,
    compression: Compression,
    empty: &Receiver<Vec<u8>>,
    to_read: &SyncSender<Filled>,
) {
    let position = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        inner: source,
        position: Arc::clone(&position),
    };
    let failed = |error: io::Error| {
        io::Error::new(
            error.kind(),
            DecompressError {
                compression,
                offset: position.load(Ordering::Relaxed),
                source: error,
            },
        )
    };
    let mut decoder = match decoder(counted, compression) {
        Ok(decoder) => decoder,
        Err(error) => {
            _ = to_read.send(Err(failed(error)));
            return;
        }
    };
    while let Ok(mut buffer) = empty.recv() {
        buffer.resize(BUFFER, 0);
        let (length, end) = fill(&mut decoder, &mut buffer);
        buffer.truncate(length);
        if length > 0 && to_read.send(Ok(buffer)).is_err() {
            return;
        }
        match end {
            Some(Ok(())) => return,
            Some(Err(error)) => {
                _ = to_read.send(Err(failed(error)));
                return;
            }
            None => {}
        }
    }
}

/// Fills a buffer; tells its length and, if nothing more comes, why.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> (usize, Option<io::Result<()>>) {
    let mut length = 0;
    while length < buffer.len() {
        match from.read(&mut buffer[length..]) {
            Ok(0) => return (length, Some(Ok(()))),
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (length, Some(Err(error))),
        }
    }
    (length, None)
}

fn decoder(source: Counted<Source>, compression: Compression) -> io::Result<Box<dyn Read>> {
    let source = BufReader::with_capacity(INPUT, source);
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(Members::Member(Box::new(GzDecoder::new(source)))),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Compression::Xz => Box::new(XzReader::new_mem_limit(source, true, XZ_MEMORY)),
    })
}

/// The members of a gzip file, one after the other.
enum Members<R: BufRead> {
    Member(Box<GzDecoder<R>>),
    End,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while let Members::Member(member) = self {
            match member.read(into)? {
                0 => {}
                length => return Ok(length),
            }
            let Members::Member(member) = std::mem::replace(self, Members::End) else {
                break;
            };
            let mut source = member.into_inner();
            if !is_at_end(&mut source)? {
                *self = Members::Member(Box::new(GzDecoder::new(source)));
            }
        }
        Ok(0)
    }
}

/// Whether nothing follows but the zeros with which tapes and some programs fill up.
fn is_at_end(source: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = source.fill_buf()?;
        let Some(&first) = bytes.first() else {
            return Ok(true);
        };
        if first != 0 {
            return Ok(false);
        }
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        let is_all = zeros == bytes.len();
        source.consume(zeros);
        if !is_all {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "something follows the padding",
            ));
        }
    }
}

/// Counts the bytes that were read.
struct Counted<R> {
    inner: R,
    position: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.position.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }
}
