// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every error becomes the one type that a guest's start returns, and says the same there.

mod common;

use common::{DEV, Host, RAM, UART, attr};
use core::str::FromStr;
use mmio_guard::client::{Guard, Ioremap, IoremapError, smccc_version};
use mmio_guard::{Dialect, Error, Policy};
use std::error::Error as _;

/// All that a guest does at its start, up to the step that fails.
fn start(host: &Host, dialect: &str, ipa: u64, bytes: u64) -> Result<(), Error> {
    smccc_version(&host)?;
    let dialect = Dialect::from_str(dialect)?;
    let guard = Guard::detect(host, Some(dialect))?;
    guard.enrol()?;
    guard.map_range(ipa, bytes >> 12, attr(0))?;
    const BANKS: &[std::ops::Range<u64>] = &[RAM];
    let mut devices: Ioremap<'_, _, 1> = Ioremap::new(guard, BANKS);
    devices.enrol(&[])?;
    devices.map(UART, 8, attr(0))?;
    devices.map(DEV, 8, attr(0))?;
    Ok(())
}

#[test]
fn every_error_is_reached_by_the_question_mark() {
    let host = Host::new(Dialect::Pkvm, Policy::Enrol);
    let text = |error: Error| error.to_string();
    // The second range has no room.
    let error = start(&host, "pkvm", UART, 0x1000).unwrap_err();
    assert_eq!(error, Error::Ioremap(IoremapError::Full));
    assert_eq!(text(error), "too many ranges are mapped");
    let error = start(&host, "pkvn", UART, 0x1000).unwrap_err();
    assert!(matches!(error, Error::Name(_)) && text(error).contains("pkvm"), "{error}");
    let error = start(&host, "series", UART, 0x1000).unwrap_err();
    assert!(matches!(error, Error::Detect(_)), "{error:?}");
    let error = start(&host, "pkvm", RAM.start, 0x1000).unwrap_err();
    assert!(matches!(error, Error::Range(_)), "{error:?}");
    assert!(text(error).starts_with("after 0 granules: "), "{error}");
    // What is inside is not told twice: the chain goes on with its source.
    assert!(error.source().unwrap().to_string().contains("invalid parameter"), "{error:?}");
    let host = Host::new(Dialect::Pkvm, Policy::Off);
    assert!(matches!(start(&host, "pkvm", UART, 0x1000), Err(Error::Detect(_))));
}
