//! boringtun's own device, as `boringtun-cli` starts it: a tun interface of this name, configured by `wg`, in the foreground.

use boringtun::device::{DeviceConfig, DeviceHandle};

fn main() {
    let name = std::env::args().nth(1).expect("usage: boringtun INTERFACE");
    let config = DeviceConfig { n_threads: 2, use_connected_socket: false, use_multi_queue: false, uapi_fd: -1 };
    let mut device = DeviceHandle::new(&name, config).expect("a tun interface and a control socket");
    device.wait();
}
