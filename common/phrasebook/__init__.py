"""A small English–French phrasebook, and the bilingual grammar that writes it."""
