//! Encoding of pixels as PNG with a palette, which takes a third of the size for an image of few colours.

use std::collections::HashMap;

use super::{HEIGHT, WIDTH};

/// Bits of a channel that distinguish shades. Colours that fill areas keep all bits.
const SHADE_MASK: u8 = 0b1110_0000;
/// Number of pixels from which a colour counts as filling an area. Rarer colours are soft edges.
const MIN_AREA_PIXELS: usize = 600;

/// Encodes RGB pixels, in rows from the top.
pub(super) fn png(pixels: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, WIDTH, HEIGHT);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    let (palette, indexed) = indexed(pixels);
    let data = if palette.is_empty() {
        encoder.set_color(png::ColorType::Rgb);
        pixels
    } else {
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_palette(palette);
        // Filters do not help here: neighbouring entries of a palette are unrelated.
        encoder.set_filter(png::Filter::NoFilter);
        &indexed
    };
    let mut writer = encoder.write_header()?;
    writer.write_image_data(data)?;
    writer.finish()?;
    Ok(bytes)
}

/// Returns the palette and each pixel's index in it. Both are empty if there are more colours than a palette holds.
fn indexed(pixels: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (colours, _) = pixels.as_chunks::<3>();
    let mut counts: HashMap<[u8; 3], usize> = HashMap::new();
    for colour in colours {
        *counts.entry(*colour).or_default() += 1;
    }
    // In order of appearance, so that the same image has the same palette.
    let mut places: HashMap<[u8; 3], u8> = HashMap::new();
    let mut shades: HashMap<[u8; 3], u8> = HashMap::new();
    let (mut palette, mut indexed) = (Vec::new(), Vec::with_capacity(colours.len()));
    for colour in colours {
        if let Some(place) = places.get(colour) {
            indexed.push(*place);
            continue;
        }
        let fills = counts.get(colour).is_some_and(|count| *count >= MIN_AREA_PIXELS);
        let shade = if fills { *colour } else { colour.map(|part| part & SHADE_MASK) };
        let known = shades.get(&shade).filter(|_| !fills).copied();
        let place = match (known, u8::try_from(palette.len() / 3)) {
            (Some(place), _) => place,
            (None, Ok(place)) => {
                palette.extend_from_slice(colour);
                place
            }
            (None, Err(_)) => return (Vec::new(), Vec::new()),
        };
        if !fills {
            shades.insert(shade, place);
        }
        places.insert(*colour, place);
        indexed.push(place);
    }
    (palette, indexed)
}
