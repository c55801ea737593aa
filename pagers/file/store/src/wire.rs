//! Little-endian cursors over byte slices: the only code here that knows about offsets.
//!
//! A [`Writer`] that runs over its end remembers it and says so once, at the end, so that an
//! encoder reads as a list of fields. A [`Reader`] answers `None` at the first byte too few.

/// Writes fields one after the other.
pub(crate) struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
    fits: bool,
}

impl<'a> Writer<'a> {
    /// Starts at the front of `bytes`.
    pub(crate) fn new(bytes: &'a mut [u8]) -> Writer<'a> {
        Writer {
            bytes,
            at: 0,
            fits: true,
        }
    }

    /// Appends raw bytes.
    pub(crate) fn bytes(&mut self, field: &[u8]) -> &mut Self {
        let end = self.at.saturating_add(field.len());
        match self.bytes.get_mut(self.at..end) {
            Some(place) => {
                place.copy_from_slice(field);
                self.at = end;
            }
            None => self.fits = false,
        }
        self
    }

    /// Appends a byte.
    pub(crate) fn u8(&mut self, field: u8) -> &mut Self {
        self.bytes(&[field])
    }

    /// Appends 16 bits.
    pub(crate) fn u16(&mut self, field: u16) -> &mut Self {
        self.bytes(&field.to_le_bytes())
    }

    /// Appends 32 bits.
    pub(crate) fn u32(&mut self, field: u32) -> &mut Self {
        self.bytes(&field.to_le_bytes())
    }

    /// Appends 64 bits.
    pub(crate) fn u64(&mut self, field: u64) -> &mut Self {
        self.bytes(&field.to_le_bytes())
    }

    /// Appends a string: 16 bits of length, then its bytes. Longer ones do not fit.
    pub(crate) fn string(&mut self, field: &[u8]) -> &mut Self {
        match u16::try_from(field.len()) {
            Ok(length) => self.u16(length).bytes(field),
            Err(_) => {
                self.fits = false;
                self
            }
        }
    }

    /// Puts the length of the whole into its first four bytes and gives it, if everything fitted.
    pub(crate) fn finish(self) -> Option<usize> {
        let length = u32::try_from(self.at).ok()?;
        let place = self.bytes.first_chunk_mut::<4>()?;
        *place = length.to_le_bytes();
        self.fits.then_some(self.at)
    }
}

/// Reads fields one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Takes `count` raw bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(front)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (front, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*front)
    }

    /// Takes a byte.
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Takes 16 bits.
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes 32 bits.
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes 64 bits.
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a string: 16 bits of length, then that many bytes.
    pub(crate) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}
