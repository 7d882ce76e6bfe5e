//! Compressed archives: ours come back, those of others are read whole, and broken ones say so.

use super::super::compress::with_threads;
use super::super::{Compression, compress, decompress};
use flate2::write::GzEncoder;
use std::io::{self, Cursor, Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// Neither random nor all the same, and not a multiple of any buffer.
fn sample(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 0x1f
    };
    (0..length).map(|_| next()).collect()
}

fn compressed(bytes: &[u8], compression: Compression, threads: usize) -> Vec<u8> {
    let mut to = with_threads(Vec::new(), compression, threads).unwrap();
    // Pieces of odd lengths must not be seen in the output.
    for piece in bytes.chunks(12_345 * threads) {
        to.write_all(piece).unwrap();
        to.flush().unwrap();
    }
    to.finish().unwrap()
}

fn decompressed(bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    decompress(Cursor::new(bytes))?.read_to_end(&mut read)?;
    Ok(read)
}

/// What a program makes of its input; `None` where it is not installed.
fn filtered(program: &str, arguments: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    let mut to = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || to.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    Some(output.stdout)
}

#[test]
fn what_was_compressed_comes_back_and_is_the_same_for_any_number_of_threads() {
    for length in [0, 1, 1 << 20, (1 << 20) + 1, 5_000_000] {
        let bytes = sample(length);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let once = compressed(&bytes, compression, 1);
            for threads in [2, 8] {
                assert!(
                    compressed(&bytes, compression, threads) == once,
                    "{compression}, {length}"
                );
            }
            assert!(
                decompressed(once.clone()).unwrap() == bytes,
                "{compression}, {length}"
            );
            if compression != Compression::None {
                assert_eq!(Compression::recognise(&once), compression);
                assert!(once.len() < length * 3 / 4 + 100);
            }
        }
    }
}

#[test]
fn the_programs_of_others_read_what_was_compressed() {
    let bytes = sample(3_000_000);
    for (compression, program) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
        let ours = compressed(&bytes, compression, 2);
        if let Some(theirs) = filtered(program, &["-dc"], &ours) {
            assert!(theirs == bytes, "{program}");
        }
    }
}

#[test]
fn a_gzip_header_has_neither_time_nor_name() {
    let bytes = compressed(b"x", Compression::Gzip, 1);
    assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
}

#[test]
fn xz_is_read_and_not_written() {
    assert_eq!(
        compress(Vec::new(), Compression::Xz)
            .err()
            .map(|error| error.kind()),
        Some(io::ErrorKind::Unsupported)
    );
    let bytes = sample(700_000);
    let (Some(mut first), Some(second)) = (
        filtered("xz", &["-c", "-1"], &bytes),
        filtered("xz", &["-c", "-9", "--check=sha256"], &bytes),
    ) else {
        return;
    };
    first.extend_from_slice(&second);
    assert_eq!(Compression::recognise(&first), Compression::Xz);
    assert!(decompressed(first).unwrap() == [&bytes[..], &bytes].concat());
}

#[test]
fn several_members_and_frames_are_one_file() {
    let member = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let members = [member(b"one"), member(b""), member(b"two"), vec![0; 5000]].concat();
    assert_eq!(decompressed(members).unwrap(), b"onetwo");

    let frame = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"junk"].concat();
    for frames in [
        [frame(b"one"), skippable.clone(), frame(b"two")].concat(),
        [
            skippable.clone(),
            frame(b"one"),
            frame(b"two"),
            skippable.clone(),
        ]
        .concat(),
    ] {
        assert_eq!(Compression::recognise(&frames), Compression::Zstd);
        assert_eq!(decompressed(frames).unwrap(), b"onetwo");
    }
}

#[test]
fn an_error_comes_after_the_bytes_before_it_and_names_its_offset() {
    let bytes = sample(2_500_000);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let whole = compressed(&bytes, compression, 2);
        let mut corrupt = whole.clone();
        let place = whole.len() * 9 / 10;
        for byte in &mut corrupt[place..place + 8] {
            *byte ^= 0xff;
        }
        let truncated = whole[..place].to_vec();
        for (broken, kind) in [
            (truncated, Some(io::ErrorKind::UnexpectedEof)),
            (corrupt, None),
        ] {
            let mut read = Vec::new();
            let error = decompress(Cursor::new(broken))
                .unwrap()
                .read_to_end(&mut read)
                .unwrap_err();
            assert!(
                kind.is_none_or(|kind| error.kind() == kind),
                "{compression}: {error:?}"
            );
            let text = error.to_string();
            let prefix = format!("cannot decompress {compression} data at offset ");
            let offset: usize = text.strip_prefix(&prefix).unwrap().parse().unwrap();
            // What is corrupt may only be seen by the checksum at the end of its member or frame.
            assert!(offset + 128 * 1024 >= place, "{offset} is before {place}");
            assert!(offset <= whole.len());
            let before = read.len().min(1_500_000);
            assert_eq!(
                before, 1_500_000,
                "{compression}: bytes before it were lost"
            );
            assert!(bytes[..before] == read[..before], "{compression}");
        }
    }
}

#[test]
fn what_follows_the_last_member_or_frame_is_an_error() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let mut bytes = compressed(b"contents", compression, 1);
        bytes.extend_from_slice(b"garbage");
        assert!(decompressed(bytes).is_err(), "{compression}");
    }
}

#[test]
fn windows_and_dictionaries_that_take_too_much_memory_are_refused() {
    // A frame of zstd that wants a window of 2 GiB.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(31).unwrap();
    encoder.write_all(b"x").unwrap();
    let frame = encoder.finish().unwrap();
    assert!(decompressed(frame).is_err());
    // A block of xz that wants a dictionary of 4 GiB.
    if let Some(bytes) = filtered("xz", &["-c", "--lzma2=preset=0,dict=1GiB"], b"x") {
        assert!(decompressed(bytes).is_err());
    }
}

/// Gives bytes without end and says when it goes.
struct Endless(Vec<u8>, usize, Sender<()>);

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = into.len().min(self.0.len() - self.1);
        into[..length].copy_from_slice(&self.0[self.1..self.1 + length]);
        self.1 = (self.1 + length) % self.0.len();
        Ok(length)
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        _ = self.2.send(());
    }
}

#[test]
fn the_decoder_ends_when_its_reader_goes() {
    for compression in [Compression::Gzip, Compression::Zstd] {
        let (gone, told) = channel();
        let source = Endless(compressed(&sample(100_000), compression, 1), 0, gone);
        let mut reader = decompress(source).unwrap();
        reader.read_exact(&mut vec![0; 3_000_000]).unwrap();
        drop(reader);
        told.recv_timeout(Duration::from_secs(20)).unwrap();
    }
}

#[test]
fn a_writer_that_fails_ends_the_compressor() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut to = with_threads(Full, compression, 3).unwrap();
        let bytes = sample(4 << 20);
        let error = match to.write_all(&[&bytes[..], &bytes, &bytes].concat()) {
            Ok(()) => to.finish().err().unwrap(),
            Err(error) => error,
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{compression}");
    }
}

/// What does not get smaller takes no more room than a hundredth, and comes back; what gets smaller somewhere is compressed.
#[test]
fn what_gets_no_smaller_is_stored() {
    let mut state = 1u64;
    let mut noise = Vec::new();
    while noise.len() < 3 << 20 {
        // xorshift64 (Marsaglia, 2003)
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(&state.to_ne_bytes());
    }
    let mut half = noise.clone();
    half[1 << 20..2 << 20].fill(b'x');
    for (bytes, least, most) in [(&noise, 3 << 20, 3_200_000), (&half, 2 << 20, 2_200_000)] {
        let packed = compressed(bytes, Compression::Gzip, 2);
        assert!((least..most).contains(&packed.len()), "{}", packed.len());
        assert!(decompressed(packed).unwrap() == *bytes);
    }
}
