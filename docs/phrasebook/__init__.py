"""The bilingual grammar that writes the bundled English–French phrasebook,
common/phrasebook/phrasebook.txt."""
