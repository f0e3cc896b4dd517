//! Bytes of a state document in memory, in pieces: a block of many megabytes for every save would fragment the heap.

use std::io::{self, Write};

/// Length of a piece, in bytes, far below the size from which the allocator treats blocks as large.
pub(super) const PIECE_BYTES: usize = 32 * 1024;

/// Bytes in pieces. Every write adds a piece, so write through a buffer of the length of a piece.
#[derive(Debug, Default)]
pub struct JsonPieces(Vec<Vec<u8>>);

impl JsonPieces {
    /// Returns the pieces in order.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// Returns all bytes in one piece.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.concat()
    }

    /// Returns the first piece, to be changed.
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
