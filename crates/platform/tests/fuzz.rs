// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random damage: nothing panics, nothing runs away, and what is accepted keeps its promises.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use support::drive::{drive, try_header, try_image, try_words};
use support::*;

/// Cases of each test: few enough for every run, or as many as FUZZ_CASES says.
fn cases() -> u32 {
    std::env::var("FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// Words that numbers in a tree like to be mistaken about.
fn wild() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0_u32..12,
        Just(u32::MAX),
        Just(u32::MAX - 3),
        Just(0x8000_0000),
        Just(0x4000_0000),
        Just(0x5000_0000),
        (0_u32..9000).prop_map(|word| word & !3),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    // bug: 84
    #[test]
    fn damaged_bytes_are_survived(
        which in 0_usize..5,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut blob = ALL[which].to_vec();
        for (place, byte) in damage {
            let place = place.index(blob.len());
            blob[place] = byte;
        }
        drive(&blob, &[0; 64]);
    }

    #[test]
    fn damaged_words_are_survived(
        which in 0_usize..5,
        damage in prop::collection::vec((any::<prop::sample::Index>(), wild()), 1..6),
    ) {
        let mut blob = ALL[which].to_vec();
        for (place, word) in damage {
            let place = place.index(blob.len() / 4) * 4;
            blob[place..place + 4].copy_from_slice(&word.to_be_bytes());
        }
        drive(&blob, &[0; 64]);
    }

    /// Damage to values only: the tree stays whole, what it says does not.
    #[test]
    fn damaged_values_are_survived(
        which in 0_usize..4,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), wild()), 1..6),
    ) {
        use dtoolkit::Property;
        use dtoolkit::model::DeviceTreeProperty;
        let blob = edited(ALL[which], |tree| {
            for (node_at, place, word) in damage {
                let names = ["memory@40000000", "cpus", "psci", "timer", "intc@8000000", "pl011@9000000", "chosen"];
                let path = format!("/{}", names[node_at.index(names.len())]);
                let Some(node) = tree.find_node_mut(&path) else { continue };
                let count = node.properties_mut().count();
                if count == 0 {
                    continue;
                }
                let chosen = place.index(count);
                let Some(property) = node.properties_mut().nth(chosen).cloned() else { continue };
                let property = &property;
                let mut value = property.value().to_vec();
                if value.len() >= 4 {
                    let at = place.index(value.len() / 4) * 4;
                    value[at..at + 4].copy_from_slice(&word.to_be_bytes());
                } else {
                    value.extend(word.to_be_bytes());
                }
                node.add_property(DeviceTreeProperty::new_unchecked(property.name(), value));
            }
        });
        drive(&blob, &[0; 64]);
    }

    #[test]
    fn pieces_cut_out_or_doubled_are_survived(
        which in 0_usize..5,
        from in any::<prop::sample::Index>(),
        len in 0_usize..64,
        doubled in any::<bool>(),
        fix_total in any::<bool>(),
    ) {
        let mut blob = ALL[which].to_vec();
        let from = from.index(blob.len());
        let to = (from + len * 4).min(blob.len());
        if doubled {
            let piece = blob[from..to].to_vec();
            blob.splice(from..from, piece);
        } else {
            blob.drain(from..to);
        }
        if fix_total && blob.len() >= 8 {
            let total = blob.len() as u32;
            blob = with_header(&blob, 1, total);
        }
        drive(&blob, &[0; 64]);
    }

    #[test]
    fn noise_is_survived(blob in prop::collection::vec(any::<u8>(), 0..256)) {
        drive(&blob, &[0; 64]);
        let mut with_magic = vec![0xd0, 0x0d, 0xfe, 0xed];
        with_magic.extend(blob);
        drive(&with_magic, &[0; 64]);
    }

    /// Token streams: more of them are trees than of noise.
    #[test]
    fn random_tokens_are_survived(tokens in prop::collection::vec((0_u8..8, wild()), 0..40)) {
        let mut raw = Raw { strings: b"reg\0status\0#address-cells\0".to_vec(), ..Raw::default() };
        for (kind, word) in tokens {
            raw = match kind {
                0 | 1 => raw.begin("memory"),
                2 | 3 => raw.end(),
                4 => raw.nop(),
                5 => raw.prop_at(word % 24, 4, &word.to_be_bytes()),
                6 => raw.prop_at(word, word, b""),
                _ => raw.token(word),
            };
        }
        drive(&raw.clone().blob(), &[0; 64]);
        drive(&raw.end().finish().blob(), &[0; 64]);
    }

    #[test]
    fn any_bootargs_are_survived(
        args in prop_oneof![
            "[ -~\\t\\n]{0,80}",
            "(vm\\.(name|mem|cpus|guard|allow|rom|load|ipa|pool)=[0-9a-fxKMG+:]{0,12} ?){1,4}",
            "\\PC{0,40}",
        ],
        head in prop::array::uniform32(any::<u8>()),
    ) {
        let mut header = image_header(0, 0, 0);
        header[..32].copy_from_slice(&head);
        for bench in [one(&args), one(&args).header(0x5000_0000, header)] {
            try_words(&bench);
        }
    }

    // bug: 84
    #[test]
    fn any_image_header_is_survived(
        mut bytes in prop::collection::vec(any::<u8>(), 0..80),
        magic in any::<bool>(),
    ) {
        if magic && bytes.len() >= 60 {
            bytes[56..60].copy_from_slice(b"ARM\x64");
        }
        try_header(&bytes);
    }

    // bug: 84
    #[test]
    fn any_file_is_survived(
        head in prop_oneof![Just(&b""[..]), Just(&b"\x7fELF\x02\x01"[..]), Just(&b"MZ"[..])],
        bytes in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        try_image(&[head, &bytes].concat(), "vm.rom=0x0+1M");
    }
}
