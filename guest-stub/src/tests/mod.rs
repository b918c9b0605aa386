// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tests, one file per group of scenarios.

mod a_convention;
mod a_hypercalls;
mod a_ranges;
mod b_guard;
mod b_lifetime;
mod c_memory;
mod d_aarch32;
mod d_access;
mod d_addresses;
mod d_big_endian;
mod d_refuse;
mod d_state;
mod devices;
mod e_races;
mod f_exhaustion;
mod g_reset;
mod h_device_calls;
mod i_clock;
mod i_interrupts;
mod i_registers;
mod i_timers;
mod i_waiting;
mod psci;
mod selftest;
