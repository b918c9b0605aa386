// SPDX-License-Identifier: MIT OR Apache-2.0
//! The check of a window against what is shared finds a leaf too many, too few, or of another frame.

use arch::{Ipa, PAGE_SIZE, Pa, Range};
use lock::Order;
use stage2::fake::{Fake, geometry};
use stage2::{Chunk, FrameTable, Parties, Split, Stage2, Window, Windowed};

const BASE: u64 = 0x10_0000_0000;
const PEER: u64 = 0x9_0000_0000;
const RAM: u64 = 4 << 20;
/// Owners: the served VM and another.
const CLIENT: u16 = 2;
const SERVER: u16 = 1;

struct Bench {
    tables: Stage2<Fake>,
    window: Window,
    order: Order,
}

impl Bench {
    fn new() -> Self {
        let pages = Window::pages(RAM);
        let fake = Fake::new(geometry(40), pages as usize + 4);
        let pool = fake.pool();
        let first = Pa::new(fake.root().raw() + 2 * PAGE_SIZE);
        let window = Window::new(Ipa::new(BASE), RAM, first).unwrap();
        let tables = Stage2::new(fake.clone(), geometry(40), fake.root(), pool);
        let order = Order::new();
        // The pool gives its last page first; the window's are never asked for.
        tables.add_window(&order, &window).unwrap();
        Self { tables, window, order }
    }

    fn share(&self, offset: u64, pa: u64) {
        let mut spare = self.tables.take_spare(&self.order);
        let granule = (offset, Pa::new(pa));
        let (order, window) = (&self.order, &self.window);
        let done = self.tables.window_share(order, window, granule, &mut spare, || true);
        assert_eq!(done, Ok(Windowed::Done));
    }

    /// What the oracle says where the granules of `shared` have their bit.
    fn verdict(&self, shared: &[u64]) -> Result<(), String> {
        let mut chunks = vec![Chunk::FREE; 4];
        let mut splits = vec![Split::FREE; 4];
        let mut frames = FrameTable::new(Pa::new(PEER), &mut chunks, &mut splits);
        let ram = Range::<Pa>::new(Pa::new(PEER), RAM).unwrap();
        frames.claim(ram, CLIENT).unwrap();
        let other = Range::<Pa>::new(Pa::new(PEER + RAM), RAM).unwrap();
        frames.claim(other, SERVER).unwrap();
        oracle::leaves(&self.tables, &self.window, shared.len() as u64, |offset, pa| {
            let shared_with =
                |owner| (owner == CLIENT && shared.contains(&offset)).then_some(SERVER);
            let right = Parties { owner: CLIENT, shared_with: Some(SERVER) };
            pa.raw() == PEER + offset && frames.parties(pa, shared_with) == Some(right)
        })
    }
}

#[test]
fn a_window_shows_what_is_shared_and_nothing_else() {
    let (one, two) = (0x3000, 0x20_1000);
    let bench = Bench::new();
    assert_eq!(bench.verdict(&[]), Ok(()));
    bench.share(one, PEER + one);
    bench.share(two, PEER + two);
    assert_eq!(bench.verdict(&[one, two]), Ok(()));
    // A leaf without its bit, and bits without their leaf.
    assert!(bench.verdict(&[one]).unwrap_err().contains("at 0x201000"));
    assert!(bench.verdict(&[two, 0x5000]).unwrap_err().contains("at 0x3000"));
    assert!(bench.verdict(&[one, two, 0x5000]).unwrap_err().contains("2 granules, 3 are"));
    // Another granule of the same VM, a frame of another VM, and one without an owner.
    for wrong in [PEER + one, PEER + RAM, PEER + 4 * RAM] {
        let bench = Bench::new();
        bench.share(two, wrong);
        assert!(bench.verdict(&[two]).unwrap_err().contains("at 0x201000"), "{wrong:#x}");
    }
}
