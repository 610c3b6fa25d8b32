//! What the Microkit tool writes into a program. It stands in read-only memory: no domain changes it, and nothing of it has
//! to be restored when a domain is restarted.

use core::arch::global_asm;

/// The value that the system description gives to a symbol of this domain (`setvar_*`). Zero if it gives none.
///
/// A symbol may be named once in a domain: twice does not link.
#[macro_export]
macro_rules! setvar {
    ($symbol:expr) => {{
        // In assembler, so that the compiler does not take the zero for constant.
        mod place {
            ::core::arch::global_asm!(
                ".pushsection .rodata.setvar, \"aR\", %progbits",
                ".p2align 3",
                concat!(".global ", $symbol),
                concat!(".type ", $symbol, ", %object"),
                concat!(".size ", $symbol, ", 8"),
                concat!($symbol, ": .quad 0"),
                ".popsection",
            );
        }
        unsafe extern "C" {
            #[link_name = $symbol]
            safe static VALUE: usize;
        }
        VALUE
    }};
}

// What the tool gives every domain; `sel4-microkit` reads it.
global_asm!(
    ".pushsection .rodata.setvar, \"aR\", %progbits",
    ".p2align 3",
    ".irp symbol, microkit_irqs, microkit_notifications, microkit_pps, microkit_ioports",
    ".global \\symbol",
    ".type \\symbol, %object",
    ".size \\symbol, 8",
    "\\symbol\\(): .quad 0",
    ".endr",
    ".global microkit_name",
    ".type microkit_name, %object",
    ".size microkit_name, 64",
    "microkit_name: .skip 64, 0",
    ".global microkit_passive",
    ".type microkit_passive, %object",
    ".size microkit_passive, 1",
    "microkit_passive: .byte 0",
    ".popsection",
);
