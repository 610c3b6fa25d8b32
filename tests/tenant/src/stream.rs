//! The bytes that a source sends: xorshift64 from a fixed start, each number little-endian. Whoever asks for them makes
//! them again and compares.

/// Marsaglia's shifts (13, 7, 17).
#[derive(Debug, Clone)]
pub struct Stream {
    state: u64,
    /// What is left of the last number.
    rest: ([u8; 8], usize),
}

impl Default for Stream {
    fn default() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, rest: ([0; 8], 8) }
    }
}

impl Stream {
    /// The next bytes.
    pub fn fill(&mut self, to: &mut [u8]) {
        let (last, used) = &mut self.rest;
        let left = last.get(*used..).unwrap_or_default();
        let first = left.len().min(to.len());
        let (head, tail) = to.split_at_mut(first);
        head.iter_mut().zip(left).for_each(|(to, from)| *to = *from);
        *used += first;
        for chunk in tail.chunks_mut(8) {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            let number = self.state.to_le_bytes();
            let len = chunk.len();
            chunk.iter_mut().zip(number).for_each(|(to, from)| *to = from);
            (*last, *used) = (number, len);
        }
    }
}
