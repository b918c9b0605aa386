// SPDX-License-Identifier: MIT OR Apache-2.0
//! The growth curves as SVG.

use std::path::Path;

use plotters::prelude::*;

use super::Figures;
use anyhow::{Result, anyhow};

const SIZE: (u32, u32) = (900, 420);
const HIGHEST: f64 = 300.0;
const COLOURS: [RGBColor; 3] =
    [RGBColor(31, 119, 180), RGBColor(214, 39, 40), RGBColor(44, 160, 44)];

/// Points of the figures `GROUP N UNIT`.
fn points(figures: &Figures, group: &str, unit: &str) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = figures
        .iter()
        .filter_map(|(name, figure)| {
            let (count, found) = name.strip_prefix(group)?.trim_start().split_once(' ')?;
            if !found.starts_with(unit) {
                return None;
            }
            Some((count.parse().ok()?, figure.median as f64 / 100.0))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

/// Draws MAP, access and refusal over declared pages, VMs and vCPUs.
///
/// # Errors
///
/// The file cannot be written.
pub fn growth(figures: &Figures, path: &Path) -> Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    draw(figures, &root).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn draw(
    figures: &Figures,
    root: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(560);
    let mut pages = ChartBuilder::on(&left)
        .caption("instructions over pages declared", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((1.0..300_000.0).log_scale(), 0.0..HIGHEST)?;
    pages.configure_mesh().x_desc("pages").y_desc("instructions").draw()?;
    for (group, colour) in ["MAP with", "access with", "refusal with"].iter().zip(COLOURS) {
        let line = points(figures, group, "pages");
        pages.draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?;
        pages
            .draw_series(line.iter().map(|point| Circle::new(*point, 4, colour.filled())))?
            .label(group.trim_end_matches(" with"))
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
    }
    pages.configure_series_labels().background_style(WHITE).border_style(BLACK).draw()?;
    let mut several = ChartBuilder::on(&right)
        .caption("over VMs and vCPUs", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(36)
        .build_cartesian_2d(0.0..9.0, 0.0..HIGHEST)?;
    several.configure_mesh().x_desc("VMs, vCPUs").draw()?;
    for (group, unit, colour) in [
        ("MAP with", "VM", COLOURS[0]),
        ("access with", "VM", COLOURS[1]),
        ("refusal with", "VM", COLOURS[2]),
        ("access by", "vCPU", BLACK),
    ] {
        let line = points(figures, group, unit);
        several.draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?;
        several.draw_series(line.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Figure;

    #[test]
    fn points_are_in_the_order_of_their_numbers() {
        let figures = Figures::from([
            ("MAP with 16 pages".into(), Figure::exact(2)),
            ("MAP with 2 pages".into(), Figure::exact(1)),
            ("MAP with 2 VMs".into(), Figure::exact(3)),
        ]);
        assert_eq!(points(&figures, "MAP with", "pages"), [(2.0, 1.0), (16.0, 2.0)]);
        assert_eq!(points(&figures, "MAP with", "VM"), [(2.0, 3.0)]);
    }
}
