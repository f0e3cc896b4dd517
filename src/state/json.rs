//! The bytes of a state file while they are in memory: in pieces, because one block of many megabytes, made anew for every
//! save, leaves holes of that size between what stays.

use std::io::{self, Write};

/// So long a piece should be, in bytes: far below what the allocator takes for large.
pub(super) const PIECE_BYTES: usize = 32 * 1024;

/// Bytes in pieces, each as it was written: put a buffer before it that is as long as a piece should be.
#[derive(Debug, Default)]
pub struct JsonPieces(Vec<Vec<u8>>);

impl JsonPieces {
    /// The pieces, in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// All of it as one.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.concat()
    }

    /// Its first piece.
    pub(super) fn first_piece(&mut self) -> &mut [u8] {
        self.0.first_mut().map_or(&mut [], Vec::as_mut_slice)
    }
}

impl Write for JsonPieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
