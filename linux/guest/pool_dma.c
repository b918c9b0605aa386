// SPDX-License-Identifier: GPL-2.0-only
/*
 * The DMA operations of a device that sees the pool and nothing else.
 *
 * Rings are allocated in the pool. What a driver maps is copied into it and
 * out of it. No cache is cleaned: the device is a program on a CPU, with the
 * same cacheable view of the pool.
 */

#include <linux/dma-map-ops.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/sizes.h>
#include <linux/string.h>
#include <linux/version.h>

#include "pool.h"

/*
 * Drivers of disks ask for the limit and split their requests. Those of
 * networks do not, and their buffers have at most 64 KiB.
 */
#define MAX_MAPPING	SZ_256K

static void copy_in(dma_addr_t addr, size_t size)
{
	memcpy(pool_va(addr), phys_to_virt(pool_original(addr)), size);
}

static void copy_out(dma_addr_t addr, size_t size)
{
	memcpy(phys_to_virt(pool_original(addr)), pool_va(addr), size);
}

/* ---- Memory for both ---- */

static void *pool_dma_alloc(struct device *dev, size_t size, dma_addr_t *addr,
			    gfp_t gfp, unsigned long attrs)
{
	size = PAGE_ALIGN(size);
	if (!size || !pool_get(size, 0, addr))
		return NULL;
	return memset(pool_va(*addr), 0, size);
}

static void pool_dma_free(struct device *dev, size_t size, void *va,
			  dma_addr_t addr, unsigned long attrs)
{
	size = PAGE_ALIGN(size);
	if (pool_inside(addr, size))
		pool_put(addr, size);
}

static struct page *pool_dma_alloc_pages(struct device *dev, size_t size,
					 dma_addr_t *addr,
					 enum dma_data_direction dir, gfp_t gfp)
{
	void *va = pool_dma_alloc(dev, size, addr, gfp, 0);

	return va ? virt_to_page(va) : NULL;
}

static void pool_dma_free_pages(struct device *dev, size_t size,
				struct page *page, dma_addr_t addr,
				enum dma_data_direction dir)
{
	pool_dma_free(dev, size, NULL, addr, 0);
}

/* ---- Mappings ---- */

/*
 * A buffer that the device is to fill begins with zeros. Its old contents are
 * none of the device's business, and if the device fills less than all of it,
 * the driver finds zeros there and not what the pool had from another request.
 */
static dma_addr_t pool_dma_map(struct device *dev, phys_addr_t original,
			       size_t size, enum dma_data_direction dir,
			       unsigned long attrs)
{
	dma_addr_t addr;

	if (!size || size > MAX_MAPPING || !pool_get(size, original, &addr))
		return DMA_MAPPING_ERROR;
	if (dir == DMA_FROM_DEVICE || (attrs & DMA_ATTR_SKIP_CPU_SYNC))
		memset(pool_va(addr), 0, size);
	else
		copy_in(addr, size);
	return addr;
}

static void pool_dma_unmap(struct device *dev, dma_addr_t addr, size_t size,
			   enum dma_data_direction dir, unsigned long attrs)
{
	if (!pool_inside(addr, size))
		return;
	if (dir != DMA_TO_DEVICE && !(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		copy_out(addr, size);
	pool_put(addr, size);
}

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
static dma_addr_t pool_dma_map_page(struct device *dev, struct page *page,
				    unsigned long offset, size_t size,
				    enum dma_data_direction dir,
				    unsigned long attrs)
{
	return pool_dma_map(dev, page_to_phys(page) + offset, size, dir, attrs);
}
#else
static dma_addr_t pool_dma_map_phys(struct device *dev, phys_addr_t original,
				    size_t size, enum dma_data_direction dir,
				    unsigned long attrs)
{
	/* Registers of another device cannot be copied. */
	if (attrs & DMA_ATTR_MMIO)
		return DMA_MAPPING_ERROR;
	return pool_dma_map(dev, original, size, dir, attrs);
}
#endif

static void pool_dma_sync_for_cpu(struct device *dev, dma_addr_t addr,
				  size_t size, enum dma_data_direction dir)
{
	if (dir != DMA_TO_DEVICE && pool_inside(addr, size))
		copy_out(addr, size);
}

static void pool_dma_sync_for_device(struct device *dev, dma_addr_t addr,
				     size_t size, enum dma_data_direction dir)
{
	if (dir != DMA_FROM_DEVICE && pool_inside(addr, size))
		copy_in(addr, size);
}

static void pool_dma_unmap_sg(struct device *dev, struct scatterlist *sgl,
			      int nents, enum dma_data_direction dir,
			      unsigned long attrs)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i)
		pool_dma_unmap(dev, sg_dma_address(sg), sg_dma_len(sg), dir,
			       attrs);
}

static int pool_dma_map_sg(struct device *dev, struct scatterlist *sgl,
			   int nents, enum dma_data_direction dir,
			   unsigned long attrs)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i) {
		sg_dma_address(sg) = pool_dma_map(dev, sg_phys(sg), sg->length,
						  dir, attrs);
		if (sg_dma_address(sg) == DMA_MAPPING_ERROR) {
			pool_dma_unmap_sg(dev, sgl, i, dir,
					  attrs | DMA_ATTR_SKIP_CPU_SYNC);
			return -ENOMEM;
		}
		sg_dma_len(sg) = sg->length;
	}

	return nents;
}

static void pool_dma_sync_sg_for_cpu(struct device *dev,
				     struct scatterlist *sgl, int nents,
				     enum dma_data_direction dir)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i)
		pool_dma_sync_for_cpu(dev, sg_dma_address(sg), sg->length, dir);
}

static void pool_dma_sync_sg_for_device(struct device *dev,
					struct scatterlist *sgl, int nents,
					enum dma_data_direction dir)
{
	struct scatterlist *sg;
	int i;

	for_each_sg(sgl, sg, nents, i)
		pool_dma_sync_for_device(dev, sg_dma_address(sg), sg->length,
					 dir);
}

static size_t pool_dma_max_mapping_size(struct device *dev)
{
	return MAX_MAPPING;
}

static int pool_dma_supported(struct device *dev, u64 mask)
{
	return mask >= pool_last();
}

const struct dma_map_ops pool_dma_ops = {
	.alloc			= pool_dma_alloc,
	.free			= pool_dma_free,
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 10, 0)
	.alloc_pages		= pool_dma_alloc_pages,
#else
	.alloc_pages_op		= pool_dma_alloc_pages,
#endif
	.free_pages		= pool_dma_free_pages,
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 18, 0)
	.map_page		= pool_dma_map_page,
	.unmap_page		= pool_dma_unmap,
#else
	.map_phys		= pool_dma_map_phys,
	.unmap_phys		= pool_dma_unmap,
#endif
	.map_sg			= pool_dma_map_sg,
	.unmap_sg		= pool_dma_unmap_sg,
	.sync_single_for_cpu	= pool_dma_sync_for_cpu,
	.sync_single_for_device	= pool_dma_sync_for_device,
	.sync_sg_for_cpu	= pool_dma_sync_sg_for_cpu,
	.sync_sg_for_device	= pool_dma_sync_sg_for_device,
	.max_mapping_size	= pool_dma_max_mapping_size,
	.dma_supported		= pool_dma_supported,
};
