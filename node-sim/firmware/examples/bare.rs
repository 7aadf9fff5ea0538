//! A node's program without std: it builds only while neither the firmware nor what it depends on has std, which would bring a
//! second panic handler, or an allocator, of which there is none. The controller's own part calls [`step`].
//!
//! `cargo rustc -p firmware --example bare --features bare -- -C panic=abort`
#![no_std]

use core::panic::PanicInfo;

use firmware::FieldNode;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// A sample, and perhaps the end of its report; how many readings had to go.
pub fn step(node: &mut FieldNode, time_ms: i64, values: [Option<i32>; 13], reports: bool) -> u32 {
    let lost = node.sample(time_ms, values, |_| None).lost;
    lost + if reports { node.report() } else { 0 }
}
