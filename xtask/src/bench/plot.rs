// SPDX-License-Identifier: MIT OR Apache-2.0
//! The growth curves as SVG.

use std::path::Path;

use plotters::prelude::*;

use super::figure::Figures;
use anyhow::{Result, anyhow};

const SIZE: (u32, u32) = (900, 448);
const HIGHEST: f64 = 300.0;
/// Height of the charts; the legend is below.
const CHARTS: u32 = 420;
/// Series: name in the legend, group and unit of its figures, colour. The first three are in both charts.
const SERIES: [(&str, &str, &str, RGBColor); 4] = [
    ("MAP", "MAP with", "pages", RGBColor(31, 119, 180)),
    ("access", "access with", "pages", RGBColor(214, 39, 40)),
    ("refusal", "refusal with", "pages", RGBColor(44, 160, 44)),
    ("access by several vCPUs", "access by", "vCPU", BLACK),
];

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
    // The legend has a strip of its own: it cannot cover data, whatever the figures are.
    let (charts, legend) = root.split_vertically(CHARTS);
    let (left, right) = charts.split_horizontally(560);
    let whole = |number: &f64| format!("{number:.0}");
    let mut pages = ChartBuilder::on(&left)
        .caption("instructions over pages declared", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((1.0..300_000.0).log_scale(), 0.0..HIGHEST)?;
    let mut mesh = pages.configure_mesh();
    mesh.x_desc("pages").y_desc("instructions");
    mesh.x_label_formatter(&whole).y_label_formatter(&whole).draw()?;
    for (_, group, unit, colour) in &SERIES[..3] {
        let line = points(figures, group, unit);
        pages.draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?;
        pages.draw_series(line.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
    }
    let mut several = ChartBuilder::on(&right)
        .caption("over VMs and vCPUs", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(36)
        .build_cartesian_2d(0.0..34.0, 0.0..HIGHEST)?;
    let mut mesh = several.configure_mesh();
    mesh.x_desc("VMs, vCPUs").x_label_formatter(&whole).y_label_formatter(&whole).draw()?;
    for (_, group, unit, colour) in &SERIES {
        let line = points(figures, group, if *unit == "pages" { "VM" } else { unit });
        several.draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))?;
        several.draw_series(line.iter().map(|point| Circle::new(*point, 4, colour.filled())))?;
    }
    for ((name, .., colour), x) in SERIES.iter().zip((60..).step_by(200)) {
        legend.draw(&Rectangle::new([(x, 8), (x + 12, 16)], colour.filled()))?;
        legend.draw(&Text::new(*name, (x + 20, 6), ("sans-serif", 13)))?;
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

    #[test]
    fn the_legend_is_below_all_data() {
        let mut figures = Figures::new();
        for height in [0, 150, 300] {
            figures.insert(format!("MAP with {} pages", 1 + height * 900), Figure::exact(height));
            figures.insert(format!("access by {} vCPUs", 1 + height / 50), Figure::exact(height));
        }
        let mut text = String::new();
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        draw(&figures, &root).unwrap();
        drop(root);
        let number = |line: &str, key: &str| -> Option<u32> {
            line.split_once(&format!(" {key}=\""))?.1.split_once('"')?.0.parse().ok()
        };
        let circles: Vec<u32> = text.lines().filter_map(|line| number(line, "cy")).collect();
        assert!(circles.len() >= 6 && circles.iter().all(|y| *y < CHARTS), "{circles:?}");
        for (name, ..) in SERIES {
            let (before, _) = text.split_once(&format!("\n{name}\n")).unwrap();
            let y = number(before.lines().next_back().unwrap(), "y").unwrap();
            assert!(y > CHARTS, "{name} at {y}");
        }
    }
}
