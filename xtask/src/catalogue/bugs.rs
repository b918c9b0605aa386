// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bugs that systems of this kind have had, by their public number or place where there is one.
//!
//! A test that would fail if we had the bug says so in a comment above it: the word `bug`, a colon, numbers.

/// One bug: what went wrong, and why no test can show it, where none can.
#[derive(Debug, Clone, Copy)]
pub struct Bug {
    /// What went wrong elsewhere, and where.
    pub title: &'static str,
    /// Why there is no test. A bug that has both a reason and a test is an error of this table.
    pub reason: Option<&'static str>,
}

const fn bug(title: &'static str) -> Bug {
    Bug { title, reason: None }
}

const fn untested(title: &'static str, reason: &'static str) -> Bug {
    Bug { title, reason: Some(reason) }
}

/// The bugs; the first is number 1.
pub const BUGS: [Bug; 85] = [
    // Stage 2, ownership, pools.
    bug(
        "An entry invalid for the CPU but valid for the software kept its page after removal (XSA-393)",
    ),
    bug(
        "Address bits above the IPA size were ignored: aliases, and a stop on the last page (XSA-301)",
    ),
    bug("A loop over concatenated root tables ended after the first (Xen)"),
    bug("Wrong size of the root table for a physical address size (Xen)"),
    bug("Splitting a block invalidated from the changed page, not from the block's base (Hafnium)"),
    bug("Mapping over a live mapping changed its output without a word (Hafnium)"),
    bug(
        "Joining small entries into a block did not ask whether their outputs are contiguous (Hafnium)",
    ),
    bug("A software walk took an entry for what it is at another level (Hafnium)"),
    bug("One valid entry replaced by another without break-before-make (Hafnium, KVM)"),
    bug(
        "A fault that lost a race skipped the invalidation; an unset level became a TLBI hint (KVM)",
    ),
    bug("A block that carried ownership was split, and the ownership lost (KVM)"),
    bug("Growing an entry lost its reserved mark: the same page was given out twice (Bao)"),
    bug("A range was used up by the first of several invalidations (TF-RMM)"),
    bug("Base plus size wrapped to zero, and nothing was invalidated (CVE-2026-89918)"),
    bug(
        "Base plus size wrapped, and caches of a page that changed hands stayed dirty (XSA-437, XSA-447)",
    ),
    bug(
        "A TLBI before the ISB after VTTBR_EL2; EL1&0 translations of other VMIDs never invalidated at EL2's start (KVM)",
    ),
    bug("Cores on which one TLBI and DSB do not suffice (CVE-2025-10263, XSA-493)"),
    bug("Tables of one guest from a shared heap: memory exhausted for all (XSA-409)"),
    bug("Something could be mapped into a VM that was being destroyed (XSA-410)"),
    bug("The result of an unmapping was ignored (XSA-222)"),
    bug("A page or table was released before its invalidation had completed (XSA-346, Jailhouse)"),
    bug("A lookup read a page's state before it had the lock (XSA-473)"),
    bug("Only the first page of a range was checked to be memory (pKVM, CVE-2026-0032)"),
    bug(
        "Overflow of address and count of a hypercall's range wrote out of bounds at EL2 (CVE-2026-0028, -59046)",
    ),
    bug("One kind of sharing was undone as another kind (pKVM)"),
    bug("Pages of the hypervisor stayed reachable for a guest (CVE-2026-98466)"),
    bug("Initialisation used what a later step sets up (pKVM)"),
    bug("An intermediate physical address was passed where a physical one was wanted (pKVM)"),
    bug("A guest's count of pages times the page size overflowed (KVMS)"),
    bug("The rest of a shared buffer was not zeroed and told of another partition (Hafnium)"),
    bug(
        "Declarations survived a VM's reboot; caches were maintained at an annotation's bogus address (KVM's guard series)",
    ),
    bug(
        "The guard's own traps: empty ranges, garbage arguments, page crossings, ISV=0, no memory, real UNMAP (Android)",
    ),
    // Faults and MMIO.
    bug("HPFAR_EL2 used without its shift (Xen)"),
    bug("HPFAR_EL2 believed on a direct permission fault, where it is UNKNOWN (Hafnium)"),
    bug("Cortex-A57 834220: a stage-2 fault reported where stage 1 should fault (KVM)"),
    bug("AT at EL2 itself faults, or changes a guest's PAR_EL1 (KVM)"),
    bug("A stage-1 walk into emulated MMIO was emulated as an access (Xen)"),
    bug("Cache maintenance by address on MMIO was emulated as a store (Xen, KVM)"),
    bug("Register 31 of a syndrome taken for SP (Xen)"),
    bug("Sign extension to 64 bits for a W register, or none (KVM, Xen)"),
    bug("The PC moved on before the emulation was done, or twice (KVM)"),
    bug("Handled, unhandled and aborted were not told apart (Xen)"),
    bug("Accesses without a syndrome: emulated with garbage, or never answered (KVM)"),
    bug("Fields of a syndrome told the device's side more than the access (TF-RMM)"),
    bug(
        "A byte written to an interrupt controller's register overwrote its neighbours (Jailhouse, Bao)",
    ),
    bug("A real fault taken for a spurious one: the same fault for ever (Hafnium)"),
    bug("A fetch from a device page went to who cannot serve it: livelock (TF-RMM)"),
    bug("An external abort or SError caused by a guest stopped the hypervisor (XSA-201)"),
    bug("An exception from EL2 to EL2 unmasked interrupts blindly (XSA-303)"),
    bug("Injection from EL0 took the wrong vector, or crashed (XSA-102, XSA-103)"),
    bug("PSTATE of an injected exception kept or lost bits (KVM)"),
    bug("Value and register swapped where FAR was written (KVM)"),
    bug("A warning that a guest can reach was a panic at EL2 (CVE-2026-72280)"),
    bug("Injected aborts that differ from what hardware does, in every hypervisor looked at"),
    // Virtual interrupt controller.
    bug(
        "Registers and reserved values of the distributor led to a crash or an out-of-bounds write (XSA-94, XSA-117)",
    ),
    bug("A list register that does not exist was used (XSA-223, CVE-2026-64287)"),
    bug(
        "Interrupts lost when list registers overflow; ISACTIVER wired to ICACTIVER (Jailhouse, Bao)",
    ),
    bug("Races and null pointers of an emulated ITS (CVE-2024-26598 and others)"),
    bug("A guest filled the log without a limit (XSA-118, XSA-146)"),
    // Hypercalls, PSCI, lifecycle.
    bug("A hypercall's arguments reached an assertion (XSA-145, XSA-158, XSA-296)"),
    bug(
        "A loop of the hypervisor on memory that a guest writes never ended; memory read twice (XSA-295)",
    ),
    untested(
        "Permissions not checked when copying to a guest's virtual address (XSA-98)",
        "no call takes a virtual address, and none reads or writes a guest's memory through one",
    ),
    bug("Empty or overflowing ranges, and locks kept on error paths (Hafnium)"),
    bug("Two arguments named the same granule; lock order; ends of ranges not checked (TF-RMM)"),
    bug(
        "Result registers of a call told what was in them before; unknown SMCs reached EL3 (Hafnium, KVM)",
    ),
    bug(
        "A VM-wide flag changed although one vCPU's call had failed; state copied whole and believed (KVM)",
    ),
    bug(
        "Reset left PSCI state; a VM could not start again; a vCPU reset by another raced (Jailhouse, hvisor, KVM)",
    ),
    untested(
        "An array of VMs was moved while other CPUs used it (CVE-2026-98927)",
        "nothing that another CPU reaches is moved: VMs and their tables are leaked before any guest runs, \
         and the borrow checker has no `&mut` to them",
    ),
    // State that leaks between VMs.
    bug(
        "Debug, performance, timer-control and implementation-defined registers were not trapped or switched (XSA-93, XSA-351, XSA-91)",
    ),
    bug("The wrong timer was saved; CNTVOFF_EL2 was never set (TF-RMM, Hafnium)"),
    bug(
        "FP/SIMD, SVE, SME or MTE state lost or leaked; ID registers not trapped (CVE-2025-22013, Hafnium)",
    ),
    bug("Memory not scrubbed before it is given to a guest (XSA-263, XSA-245, XSA-372)"),
    bug("Speculation: across the vectors, and past an ERET (XSA-254, XSA-398, XSA-312)"),
    // Caches and memory types.
    bug("A guest's set/way maintenance was executed (XSA-93, Jailhouse)"),
    untested(
        "Instruction caches not invalidated where memory is used again (KVM)",
        "only a board shows it: QEMU keeps what it translated true to memory by itself",
    ),
    bug(
        "A device region mapped as Normal memory, or with a gathering type (Hafnium, CVE-2026-72277)",
    ),
    untested(
        "Lines of the image or of boot variables stale in the data cache (Hafnium, Xen, TF-RMM)",
        "only a board shows it: QEMU models no caches",
    ),
    bug("A page changed hands with dirty lines (Xen and others)"),
    // DMA and boot inputs.
    bug("A device that can do DMA was given to an untrusted VM without an SMMU (pKVM, hvisor)"),
    bug("A check for overlaps did not see a region that encloses another (Hafnium)"),
    bug("An image larger than its memory overwrote what lies behind (hvisor)"),
    bug("The boot CPU's registers were clobbered in release builds only (hvisor)"),
    bug(
        "The scan of redistributors trusted a flag of the device tree or of the hardware (Hafnium)",
    ),
    bug(
        "Overflows in parsers of device trees and images; no limit on memory (CVE-2014-9802, XSA-55, XSA-383)",
    ),
    bug("Protection was declared ready although its initialisation had failed (CVE-2023-53319)"),
];
