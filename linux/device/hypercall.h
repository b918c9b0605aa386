/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The calls of a device VM: docs/abi.md. Each answers 0 or -EINVAL, and one that
 * fails has changed nothing. None of them waits.
 */
#ifndef _PORTCULLIS_HYPERCALL_H
#define _PORTCULLIS_HYPERCALL_H

#include <linux/arm-smccc.h>
#include <linux/errno.h>
#include <linux/types.h>

#define PORTCULLIS_FUNC(nr)						\
	ARM_SMCCC_CALL_VAL(ARM_SMCCC_FAST_CALL, ARM_SMCCC_SMC_64,	\
			   ARM_SMCCC_OWNER_VENDOR_HYP, (nr))

#define PORTCULLIS_VERSION_FUNC		PORTCULLIS_FUNC(0xf000)
#define PORTCULLIS_PEER_INFO_FUNC	PORTCULLIS_FUNC(0xf010)
#define PORTCULLIS_ATTACH_FUNC		PORTCULLIS_FUNC(0xf011)
#define PORTCULLIS_COMPLETE_FUNC	PORTCULLIS_FUNC(0xf012)
#define PORTCULLIS_DOORBELL_FUNC	PORTCULLIS_FUNC(0xf013)
#define PORTCULLIS_IRQ_FUNC		PORTCULLIS_FUNC(0xf014)
#define PORTCULLIS_REG_FUNC		PORTCULLIS_FUNC(0xf015)
#define PORTCULLIS_EVENT_DONE_FUNC	PORTCULLIS_FUNC(0xf016)

/* x1 of VERSION: the calls of a device VM are served. */
#define PORTCULLIS_DEVICE_VM		GENMASK(22, 16)

/* x2 of PEER_INFO. */
#define PEER_INFO_VCPUS			GENMASK(7, 0)
#define PEER_INFO_TRANSPORTS		GENMASK(15, 8)
#define PEER_INFO_RUNNING		BIT(16)
#define PEER_INFO_ATTACHED		BIT(17)
#define PEER_INFO_WAITING		GENMASK(31, 24)

/* x2 of IRQ: set bits of InterruptStatus. */
#define PORTCULLIS_IRQ_STATUS		3
/* Bits of InterruptStatus that there are: virtio 1.2, 4.2.2. */
#define PORTCULLIS_INTERRUPT_BITS	GENMASK(1, 0)
/* x3 of DOORBELL: only the value in x4 rings. */
#define PORTCULLIS_BELL_MATCH		BIT(8)

/* x1 of a call about @part, a transport, a vCPU or a doorbell, of a peer. */
static inline u64 portcullis_target(u32 peer, u32 part)
{
	return peer | (u64)part << 16;
}

static inline int portcullis_call(u32 func, u64 target, u64 x2, u64 x3, u64 x4)
{
	struct arm_smccc_res res;

	arm_smccc_1_1_hvc(func, target, x2, x3, x4, &res);
	return res.a0 ? -EINVAL : 0;
}

static inline int portcullis_reg_get(u64 target, u64 reg, u64 *value)
{
	struct arm_smccc_res res;

	arm_smccc_1_1_hvc(PORTCULLIS_REG_FUNC, target, 0UL, reg, 0UL, &res);
	if (res.a0)
		return -EINVAL;
	*value = res.a1;
	return 0;
}

/* What EL2 says of a peer: its life, PEER_INFO_*, milliseconds of waiting. */
struct portcullis_peer_info {
	u64 life;
	u64 state;
	u64 timeout_ms;
};

static inline int portcullis_peer_info(u32 peer,
				       struct portcullis_peer_info *info)
{
	struct arm_smccc_res res;

	arm_smccc_1_1_hvc(PORTCULLIS_PEER_INFO_FUNC, (u64)peer, &res);
	if (res.a0)
		return -EINVAL;
	info->life = res.a1;
	info->state = res.a2;
	info->timeout_ms = res.a3;
	return 0;
}

#endif /* _PORTCULLIS_HYPERCALL_H */
