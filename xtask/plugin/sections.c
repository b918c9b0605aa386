// SPDX-License-Identifier: MIT OR Apache-2.0
// A TCG plugin of QEMU: the longest sections of EL2 with interrupts masked, in executed instructions.
//
// EL2 never unmasks interrupts. A section begins with the vector of an exit, and ends with ERET, with WFI, or where EL2 looks
// at ISR_EL1 and would handle what is pending. What a CPU does before its first guest instruction is boot: that is counted by
// itself, for each CPU.
//
// EL2's instructions are those of its image: at their own address (EL2 maps RAM one to one), and in the memory of the machine
// where the image was loaded. A guest's instruction may have the same address, but lies elsewhere in the machine's memory.
//
// A guest says what it provokes: MOVZ XZR, #(0x5e00 | kind). The longest section from there on counts for this kind. Kind 0
// ends the measurement: the results are written.
//
// Arguments: base=ADDRESS,size=BYTES of the image; out=FILE. A line of the file: kind, instructions, number of sections, then
// the addresses of some instructions of the longest section. Or: "cpu", its number, EL2's instructions before it first left to
// a guest, if it did.
//
// The declarations are those of QEMU's plugin API, version 1 (qemu-plugin.h is not in every distribution's packages).

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*executed)(unsigned int cpu, void *data);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed, int flags, void *data);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, executed, int flags, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
void *qemu_plugin_insn_haddr(const struct qemu_plugin_insn *);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 1;

enum { CPUS = 8, KINDS = 256, SAMPLES = 64, KIND_MARK = 0x5e00 };
enum { NONE, LOOK, LEAVE };

// Instructions of the running section of a CPU, and some of their addresses: every `stride`th.
struct section {
    uint64_t length, stride;
    unsigned samples;
    uint64_t at[SAMPLES];
};

static struct section running[CPUS], longest[KINDS];
static uint64_t count[KINDS];
static int entered[CPUS];
static uint64_t boot[CPUS];
static unsigned kind;
static uint64_t base, size;
static int64_t offset;
static const char *out;

static void end_section(unsigned int cpu)
{
    struct section *now = &running[cpu];
    if (now->length != 0 && entered[cpu]) {
        count[kind]++;
        if (now->length > longest[kind].length)
            longest[kind] = *now;
    }
    now->length = 0;
    now->samples = 0;
    now->stride = 1;
}

static void in_el2(unsigned int cpu, void *data)
{
    if (cpu >= CPUS)
        return;
    struct section *now = &running[cpu];
    uint64_t address = (uint64_t)(uintptr_t)data >> 2;
    if (!entered[cpu])
        boot[cpu]++;
    if (now->length % now->stride == 0) {
        if (now->samples == SAMPLES) {
            for (unsigned n = 0; n < SAMPLES / 2; n++)
                now->at[n] = now->at[2 * n];
            now->samples = SAMPLES / 2;
            now->stride *= 2;
        }
        if (now->length % now->stride == 0)
            now->at[now->samples++] = address << 2;
    }
    now->length++;
    switch ((uintptr_t)data & 3) {
    case LOOK:
        end_section(cpu);
        break;
    case LEAVE:
        end_section(cpu);
        entered[cpu] = 1;
        break;
    }
}

static void in_guest(unsigned int cpu, void *data)
{
    (void)data;
    if (cpu < CPUS && running[cpu].length != 0)
        end_section(cpu);
}

static void write_results(void)
{
    FILE *file = fopen(out, "w");
    if (!file)
        return;
    for (unsigned n = 1; n < KINDS; n++) {
        if (count[n] == 0)
            continue;
        fprintf(file, "%u %" PRIu64 " %" PRIu64, n, longest[n].length, count[n]);
        for (unsigned at = 0; at < longest[n].samples; at++)
            fprintf(file, " %#" PRIx64, longest[n].at[at]);
        fprintf(file, "\n");
    }
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        if (entered[cpu])
            fprintf(file, "cpu %u %" PRIu64 "\n", cpu, boot[cpu]);
    fclose(file);
}

static void marked(unsigned int cpu, void *data)
{
    (void)cpu;
    kind = (unsigned)(uintptr_t)data;
    if (kind == 0)
        write_results();
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    (void)id;
    for (size_t n = 0; n < qemu_plugin_tb_n_insns(tb); n++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, n);
        uint64_t address = qemu_plugin_insn_vaddr(insn);
        int64_t host = (int64_t)(uintptr_t)qemu_plugin_insn_haddr(insn) - (int64_t)address;
        uint32_t word;
        memcpy(&word, qemu_plugin_insn_data(insn), sizeof word);
        if (address - base < size && offset == 0)
            // The image's first instruction, with the MMU off.
            offset = host;
        if (address - base < size && host == offset) {
            uintptr_t what = NONE;
            if ((word & ~31u) == 0xd538c100 || word == 0xd503207f) // MRS Xt, ISR_EL1; WFI
                what = LOOK;
            else if (word == 0xd69f03e0) // ERET
                what = LEAVE;
            qemu_plugin_register_vcpu_insn_exec_cb(insn, in_el2, 0, (void *)((uintptr_t)address | what));
            continue;
        }
        if (n == 0)
            qemu_plugin_register_vcpu_tb_exec_cb(tb, in_guest, 0, NULL);
        if ((word & 0xffe0001f) == 0xd280001f && (word >> 5 & 0xff00) == KIND_MARK)
            qemu_plugin_register_vcpu_insn_exec_cb(insn, marked, 0, (void *)(uintptr_t)(word >> 5 & 0xff));
    }
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int n = 0; n < argc; n++) {
        if (strncmp(argv[n], "base=", 5) == 0)
            base = strtoull(argv[n] + 5, NULL, 0);
        else if (strncmp(argv[n], "size=", 5) == 0)
            size = strtoull(argv[n] + 5, NULL, 0);
        else if (strncmp(argv[n], "out=", 4) == 0)
            out = strdup(argv[n] + 4);
    }
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        running[cpu].stride = 1;
    if (size == 0 || !out) {
        fprintf(stderr, "sections: base=, size= and out= are needed\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
