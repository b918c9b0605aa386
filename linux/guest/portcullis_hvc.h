/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The calls of the hypervisor that the guest modules use: docs/abi.md, dialect
 * "pkvm". The same numbers mean other things in the other dialect.
 */
#ifndef PORTCULLIS_HVC_H
#define PORTCULLIS_HVC_H

#include <linux/arm-smccc.h>
#include <linux/sizes.h>

#include <asm/hypervisor.h>

enum portcullis_func {
	PORTCULLIS_MEMINFO	= 2,
	PORTCULLIS_MEM_SHARE	= 3,
	PORTCULLIS_INFO		= 5,
	PORTCULLIS_ENROLL	= 6,
	PORTCULLIS_MAP		= 7,
	PORTCULLIS_UNMAP	= 8,
	PORTCULLIS_RANGE_MAP	= 10,
	PORTCULLIS_RANGE_UNMAP	= 11,
};

/* INFO and MEMINFO, x1: calls take ranges. */
#define PORTCULLIS_INFO_RANGES	1

/* The unit of all calls. */
#define PORTCULLIS_GRANULE	SZ_4K

/*
 * Function 7 is proof of the dialect: the other one does not have it.
 * The kernel has checked the UID of the hypervisor and its conduit, HVC.
 */
static inline bool portcullis_has(enum portcullis_func func)
{
	return arm_smccc_1_1_get_conduit() == SMCCC_CONDUIT_HVC &&
	       kvm_arm_hyp_service_available(PORTCULLIS_MAP) &&
	       kvm_arm_hyp_service_available(func);
}

static inline struct arm_smccc_res portcullis_call(enum portcullis_func func,
						   u64 x1, u64 x2)
{
	struct arm_smccc_res res;

	arm_smccc_1_1_hvc(ARM_SMCCC_CALL_VAL(ARM_SMCCC_FAST_CALL,
					     ARM_SMCCC_SMC_64,
					     ARM_SMCCC_OWNER_VENDOR_HYP, func),
			  x1, x2, 0, &res);
	return res;
}

#endif
