// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which UART is the console, and how to drive it.
//!
//! One table instead of a crate for each: what polling needs of a UART is three registers and two bits.
//!
//! Sources: Devicetree Specification v0.4, sections 3.3 and 3.6; the bindings of each UART; for its registers the
//! manual named beside it.

use crate::board::chosen;
use crate::board::description::{Uart, UartKind};
use crate::board::interrupt;
use crate::error::{Error, err};
use crate::fdt::cells;
use crate::fdt::{self, Node, Tree};
use alloc::string::String;

/// How a UART is driven by polling, as firmware or the boot loader left it: where its registers are, and which bits say
/// that it takes or has a byte. All offsets are in bytes from its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UartDriver {
    /// A byte to send is written here.
    pub send: u16,
    /// A byte that has arrived is read here, from bits 7:0.
    pub receive: u16,
    /// The register with the bits below.
    pub status: u16,
    /// A byte can be written when this bit of the status...
    pub room: u32,
    /// ... is set, or clear where it says that the FIFO is full.
    pub room_when_set: bool,
    /// A byte has arrived when this bit of the status...
    pub arrived: u32,
    /// ... is set, or clear where it says that the FIFO is empty.
    pub arrived_when_set: bool,
    /// The register that enables interrupts, and what to write there for one that lasts while input waits. Without it the
    /// UART is looked at now and then; 0 is written to have none.
    pub interrupt: Option<(u16, u32)>,
    /// A register, and what to write there once, for a UART that firmware may have left off.
    pub enable: Option<(u16, u32)>,
    /// Width of an access in bytes: 1, 2 or 4.
    pub width: u8,
}

/// 8250, 16550: RBR/THR 0, IER 1, LSR 5 with THRE 5 and DR 0; registers `1 << shift` apart.
const fn ns16550(shift: u8, width: u8) -> UartDriver {
    UartDriver {
        send: 0,
        receive: 0,
        status: 5 << shift,
        room: 1 << 5,
        room_when_set: true,
        arrived: 1,
        arrived_when_set: true,
        // ERBFI.
        interrupt: Some((1 << shift, 1)),
        enable: None,
        width,
    }
}

/// A UART of 32-bit registers whose status has bits for "full" and "empty".
const fn full_and_empty(send: u16, receive: u16, status: u16, full: u32, empty: u32) -> UartDriver {
    UartDriver {
        send,
        receive,
        status,
        room: 1 << full,
        room_when_set: false,
        arrived: 1 << empty,
        arrived_when_set: false,
        interrupt: None,
        enable: None,
        width: 4,
    }
}

/// Arm PL011 (DDI 0183 3.3): DR, FR with TXFF 5 and RXFE 4, IMSC with RXIM 4 and RTIM 6.
pub const PL011: UartDriver =
    UartDriver { interrupt: Some((0x38, 1 << 4 | 1 << 6)), ..full_and_empty(0, 0, 0x18, 5, 4) };
/// BCM2835 mini UART (BCM2711 peripherals, 2.2): a 16550's, from AUX_MU_IO_REG on; it interrupts only with IER bit 2.
const BCM_MINI: UartDriver = UartDriver { interrupt: Some((4, 1 | 1 << 2)), ..ns16550(2, 4) };
/// Cadence (Zynq UltraScale+ registers, UG1087): FIFO, SR with TXFULL 4 and RXEMPTY 1; CR with TXEN 4 and RXEN 2.
const CADENCE: UartDriver =
    UartDriver { enable: Some((0, 1 << 4 | 1 << 2)), ..full_and_empty(0x30, 0x30, 0x2c, 4, 1) };
/// i.MX (i.MX 8M Plus reference manual, 16.2): URXD, UTXD, UTS with TXFULL 4 and RXEMPTY 5.
const IMX: UartDriver = full_and_empty(0x40, 0, 0xb4, 4, 5);
/// NXP LPUART of 32 bits, i.MX 8X and later: DATA, STAT with TDRE 23 and RDRF 21.
const LPUART: UartDriver = UartDriver {
    room_when_set: true,
    arrived_when_set: true,
    ..full_and_empty(0x1c, 0x1c, 0x14, 23, 21)
};
/// Amlogic Meson (S905 datasheet, UART): WFIFO, RFIFO, STATUS with TX full 21 and RX empty 20.
const MESON: UartDriver = full_and_empty(0, 4, 0xc, 21, 20);
/// Marvell Armada 3700: RBR, TSH, STAT with TX FIFO full 11 and RX ready 4.
const ARMADA: UartDriver =
    UartDriver { arrived_when_set: true, ..full_and_empty(4, 0, 0xc, 11, 4) };

/// The alias of the first UART: the console where the tree names none.
pub(crate) const SERIAL0: &str = "serial0";

/// Names in trees of UARTs whose registers are always the same.
const DRIVERS: [(&[&str], &str, UartDriver); 8] = [
    (&["arm,pl011", "arm,sbsa-uart"], "PL011", PL011),
    (&["brcm,bcm2835-aux-uart"], "BCM mini UART", BCM_MINI),
    (&["xlnx,xuartps", "cdns,uart-r1p8", "cdns,uart-r1p12"], "Cadence", CADENCE),
    (&["fsl,imx6q-uart", "fsl,imx21-uart"], "i.MX", IMX),
    (&["fsl,imx7ulp-lpuart", "fsl,imx8qxp-lpuart"], "LPUART", LPUART),
    (&["amlogic,meson-gx-uart", "amlogic,meson-ao-uart"], "Meson", MESON),
    (&["marvell,armada-3700-uart"], "Armada 3700", ARMADA),
    (&["ti,am654-uart", "mediatek,mt6577-uart"], "16550", ns16550(2, 4)),
];
/// Names of 16550s whose nodes say how their registers lie.
const NS16550: [&str; 7] = [
    "ns16550a",
    "ns16550",
    "ns16750",
    "ns16850",
    "ns8250",
    "snps,dw-apb-uart",
    "nvidia,tegra20-uart",
];

/// The word of the hypervisor's command line that chooses the console.
pub(crate) const CONSOLE_WORD: &str = "hyp.console=";

/// The console: the UART that `hyp.console=` names, else the one of [`by_tree`].
///
/// # Errors
/// The word is given twice, or names no UART that Portcullis drives; the registers of a UART that is named are
/// impossible.
pub(crate) fn console(tree: &Tree<'_>) -> Result<Option<Uart>, Error> {
    let bootargs = chosen::bootargs(tree)?;
    let mut words =
        bootargs.split_ascii_whitespace().filter_map(|it| it.strip_prefix(CONSOLE_WORD));
    let Some(place) = words.next() else { return by_tree(tree) };
    if words.next().is_some() {
        return Err(err!(Word, "'{CONSOLE_WORD}' is given twice; keep one"));
    }
    match uart(tree, place)? {
        Some(uart) if matches!(uart.kind, UartKind::Driven { .. }) => Ok(Some(uart)),
        _ => Err(err!(
            Word,
            "{CONSOLE_WORD}{place}: no UART that Portcullis drives; give the path of its node, or \
             an alias"
        )),
    }
}

/// The console that the tree chooses: the UART that stdout-path names, else the alias serial0. `None` where neither
/// leads to a node with registers.
pub(crate) fn by_tree(tree: &Tree<'_>) -> Result<Option<Uart>, Error> {
    if let Some(chosen) = tree.find("/chosen") {
        let named = chosen.string("stdout-path")?;
        if let Some(stdout) = named.or(chosen.string("linux,stdout-path")?)
            && let Some(uart) = uart(tree, stdout)?
        {
            return Ok(Some(uart));
        }
    }
    // The tree does not say that this UART is a console, so a wrong description of it refuses no board, and a UART
    // that is off stays untouched: its clock may be off too.
    let Ok(Some(node)) = resolve(tree, SERIAL0) else { return Ok(None) };
    Ok(if node.is_enabled() { described(tree, &node, "").unwrap_or_default() } else { None })
}

/// The UART at `place`: a path or an alias, with or without options behind a colon. `None` where that leads to no node
/// with registers, as in vendors' trees that mean a display.
fn uart(tree: &Tree<'_>, place: &str) -> Result<Option<Uart>, Error> {
    let (place, options) = place.split_once(':').unwrap_or((place, ""));
    match resolve(tree, place)? {
        Some(node) => described(tree, &node, options),
        None => Ok(None),
    }
}

/// The UART that `node` describes; `None` without registers.
fn described(tree: &Tree<'_>, node: &Node<'_>, options: &str) -> Result<Option<Uart>, Error> {
    if node.property("reg").is_none() {
        return Ok(None);
    }
    let Some(registers) = cells::reg(node)?.first().copied() else { return Ok(None) };
    if registers.size() == 0 {
        return Err(err!(Board, "{}: its reg is empty", node.path()));
    }
    Ok(Some(Uart {
        kind: kind(node)?,
        registers,
        // A console is used without its interrupt too: a wrong one is none.
        intid: interrupt::intids(tree, node).ok().and_then(|all| all.first().copied().flatten()),
        path: node.path(),
        options: fdt::short(options),
        clock: node.word("clock-frequency"),
    }))
}

/// A node by its path, or by its alias with or without a rest of a path.
fn resolve<'t>(tree: &'t Tree<'t>, place: &str) -> Result<Option<Node<'t>>, Error> {
    if place.starts_with('/') {
        return Ok(tree.find(place));
    }
    let (alias, rest) = match place.find('/') {
        Some(slash) => place.split_at_checked(slash).unwrap_or((place, "")),
        None => (place, ""),
    };
    let Some(aliases) = tree.find("/aliases") else { return Ok(None) };
    let Some(path) = aliases.string(alias)? else { return Ok(None) };
    // An alias is a path: one that is an alias again leads nowhere, not round in circles.
    let mut whole = String::from(path);
    whole.push_str(rest);
    Ok(tree.find(&whole))
}

fn kind(node: &Node<'_>) -> Result<UartKind, Error> {
    for (names, name, driver) in &DRIVERS {
        if node.is_compatible(names) {
            return Ok(UartKind::Driven { name, driver: *driver });
        }
    }
    if !node.is_compatible(&NS16550) {
        return Ok(UartKind::Unknown(node.first("compatible")));
    }
    let shift = node.checked_word("reg-shift")?.unwrap_or(0);
    let width = node.checked_word("reg-io-width")?.unwrap_or(1);
    match (shift, width) {
        (0..=4, 1 | 2 | 4) => {
            let driver = ns16550(shift as u8, width as u8);
            Ok(UartKind::Driven { name: "16550", driver })
        }
        _ => Err(err!(
            Board,
            "{}: reg-shift {shift} or reg-io-width {width} is not possible (0 to 4; 1, 2 or 4)",
            node.path()
        )),
    }
}
