// SPDX-License-Identifier: MIT OR Apache-2.0
//! `src/uapi.rs` beside the module's header, `linux/device/portcullis.h`.

use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};

use device_server::uapi::{self, Config, Done, Fd, Info, Irq, Reg};

fn header() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../linux/device/portcullis.h");
    let text = std::fs::read_to_string(path).unwrap();
    // Without comments.
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("/*") {
        out.push_str(before);
        rest = after.split_once("*/").unwrap().1;
    }
    out + rest
}

/// Value of `#define NAME VALUE`.
fn defined(name: &str) -> String {
    let header = header();
    let mut lines = header.lines().filter_map(|line| line.strip_prefix("#define "));
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix([' ', '\t']));
    value.unwrap_or_else(|| panic!("{name} is not defined")).trim().to_owned()
}

/// Name, offset and size of the members of a struct, by C's rules, and its size.
fn members(name: &str) -> (Vec<(String, usize, usize)>, usize) {
    let header = header();
    let start = format!("struct portcullis_{name} {{");
    let body = header.split_once(&start).unwrap().1.split_once('}').unwrap().0;
    let constants: BTreeMap<_, _> = ["TRANSPORTS", "QUEUES", "NAME", "CONFIG_SPACE"]
        .map(|name| (format!("PORTCULLIS_{name}"), defined(&format!("PORTCULLIS_{name}"))))
        .into();
    let (mut all, mut end, mut largest) = (Vec::new(), 0_usize, 1);
    for line in body.split(';').map(str::trim).filter(|line| !line.is_empty()) {
        let (kind, name) = line.split_once(char::is_whitespace).unwrap();
        let bytes = match kind {
            "__u64" => 8,
            "__u32" | "__s32" => 4,
            "__u16" => 2,
            "__u8" | "char" => 1,
            other => panic!("{other}"),
        };
        for name in name.split(',').map(str::trim) {
            let (name, count) = match name.split_once('[') {
                Some((name, count)) => (name, count.trim_end_matches(']')),
                None => (name, "1"),
            };
            let count = constants.get(count).map_or(count, String::as_str);
            end = end.next_multiple_of(bytes);
            all.push((name.to_owned(), end, bytes * count.parse::<usize>().unwrap()));
            end += bytes * count.parse::<usize>().unwrap();
            largest = largest.max(bytes);
        }
    }
    (all, end.next_multiple_of(largest))
}

macro_rules! same {
    ($name:literal, $type:ident { $($member:ident),* }) => {{
        let value: $type = $type::default();
        let ours = vec![$((
            stringify!($member).to_owned(),
            offset_of!($type, $member),
            std::mem::size_of_val(&value.$member),
        )),*];
        assert_eq!(members($name), (ours, size_of::<$type>()), "{}", $name);
    }};
}

#[test]
fn structures_are_the_headers() {
    same!(
        "info",
        Info { life, ram_base, ram_size, timeout_ms, vcpus, transports, flags, device_id, name }
    );
    same!("reg", Reg { transport, reg, value });
    same!("config", Config { transport, offset, len, pad, data });
    same!("fd", Fd { kind, transport, queue, fd });
    same!("irq", Irq { transport, bits });
    same!("done", Done { transport, seq });
}

#[test]
fn requests_are_the_headers() {
    let ours = [
        ("INFO", "_IOR", "struct portcullis_info", uapi::INFO.number(), size_of::<Info>()),
        ("ATTACH", "_IOW", "__u64", uapi::ATTACH.number(), 8),
        ("REG_GET", "_IOWR", "struct portcullis_reg", uapi::REG_GET.number(), size_of::<Reg>()),
        ("REG_SET", "_IOW", "struct portcullis_reg", uapi::REG_SET.number(), size_of::<Reg>()),
        ("CONFIG", "_IOW", "struct portcullis_config", uapi::CONFIG.number(), size_of::<Config>()),
        ("SET_FD", "_IOW", "struct portcullis_fd", uapi::SET_FD.number(), size_of::<Fd>()),
        ("IRQ", "_IOW", "struct portcullis_irq", uapi::IRQ.number(), size_of::<Irq>()),
        (
            "EVENT_DONE",
            "_IOW",
            "struct portcullis_done",
            uapi::EVENT_DONE.number(),
            size_of::<Done>(),
        ),
    ];
    assert_eq!(defined("PORTCULLIS_IOC"), "0xB6");
    for (name, direction, argument, number, size) in ours {
        let nr = number & 0xff;
        let line = format!("{direction}(PORTCULLIS_IOC, {nr}, {argument})");
        assert_eq!(defined(&format!("PORTCULLIS_{name}")), line);
        let bits = match direction {
            "_IOW" => 1,
            "_IOR" => 2,
            _ => 3,
        };
        assert_eq!(number, bits << 30 | (size as u32) << 16 | 0xb600 | nr, "{name}");
    }
    assert_eq!(defined("PORTCULLIS_DETACH"), "_IO(PORTCULLIS_IOC, 2)");
    assert_eq!(uapi::DETACH.number(), 0xb602);
}

#[test]
fn constants_are_the_headers() {
    for (name, value) in [
        ("TRANSPORTS", uapi::TRANSPORTS),
        ("QUEUES", uapi::QUEUES),
        ("NAME", uapi::NAME),
        ("CONFIG_SPACE", uapi::CONFIG_SPACE),
    ] {
        let text = defined(&format!("PORTCULLIS_{name}"));
        assert_eq!(text, value.to_string(), "{name}");
    }
    assert_eq!(defined("PORTCULLIS_RUNNING"), "(1U << 0)");
    assert_eq!(defined("PORTCULLIS_ATTACHED"), "(1U << 1)");
    assert_eq!((uapi::RUNNING, uapi::ATTACHED), (1, 2));
    let kinds = header().split_once("enum portcullis_fd_kind {").unwrap().1.to_owned();
    let kinds: String = kinds.split_once('}').unwrap().0.split_whitespace().collect();
    assert_eq!(
        kinds,
        "PORTCULLIS_FD_QUEUE=0,PORTCULLIS_FD_EVENT=1,PORTCULLIS_FD_LIFE=2,PORTCULLIS_FD_CALL=3,"
    );
    let ours = [uapi::FD_QUEUE, uapi::FD_EVENT, uapi::FD_LIFE, uapi::FD_CALL];
    assert_eq!(ours, [0, 1, 2, 3]);
}
