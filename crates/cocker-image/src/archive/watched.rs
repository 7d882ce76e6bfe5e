//! Tells how far packing has come.

use std::io::{self, Write};

/// Tells how many bytes have been written.
pub(crate) struct Watched<'a, W> {
    inner: W,
    tell: &'a mut dyn FnMut(u64),
    passed: u64,
}

impl<'a, W: Write> Watched<'a, W> {
    pub fn new(inner: W, tell: &'a mut dyn FnMut(u64)) -> Watched<'a, W> {
        Watched {
            inner,
            tell,
            passed: 0,
        }
    }

    pub fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.passed += written as u64;
        (self.tell)(self.passed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
