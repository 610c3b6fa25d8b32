//! A register of a device.

/// A byte-wide or word-wide register, at an address that the description has given to a symbol of this domain.
pub(crate) struct Register<T>(pub(crate) *mut T);

impl<T: Copy> Register<T> {
    pub(crate) fn read(&self) -> T {
        // SAFETY: the driver took the address from the description, which maps the device there, and it is aligned.
        unsafe { self.0.read_volatile() }
    }

    pub(crate) fn write(&self, value: T) {
        // SAFETY: as above; these registers take any value.
        unsafe { self.0.write_volatile(value) }
    }
}
