// SPDX-License-Identifier: MIT OR Apache-2.0
//! How each UART is driven by polling: one table instead of a crate for each.
//!
//! Sources: the bindings of each UART; for its registers the manual named beside it.

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
pub(crate) const fn ns16550(shift: u8, width: u8) -> UartDriver {
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

/// Names in trees of UARTs whose registers are always the same.
pub(crate) const DRIVERS: [(&[&str], &str, UartDriver); 8] = [
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
pub(crate) const NS16550: [&str; 7] = [
    "ns16550a",
    "ns16550",
    "ns16750",
    "ns16850",
    "ns8250",
    "snps,dw-apb-uart",
    "nvidia,tegra20-uart",
];
