"""Zip archives that anybody may have written: nothing in one is unpacked but what is asked for, up to its limit."""

import io
import zipfile
import zlib

LARGEST_ARCHIVE = 1 << 28  # bytes of a corpus's archive; the largest of manythings.org has 20 million
MOST_MEMBERS = 10_000  # each takes 420 bytes of memory and may take 46 of the archive
MEMBER = b"PK\x01\x02"  # the bytes that begin an entry of an archive's list of members

# The exceptions with which zipfile answers to an archive that it cannot unpack.
UNZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    RuntimeError,  # an archive with a password, or an unknown method of compression
    EOFError,
    ValueError,
    OSError,
)


def open_archive(content: bytes) -> zipfile.ZipFile:
    """The archive in these bytes. Raises one of UNZIP_ERRORS.

    Members must be stored or deflated, as manythings.org and the frameworks pack them: of other methods zipfile
    unpacks all at once that it has read, and 1 MB of bzip2 may be 20 GB.
    """
    if content.count(MEMBER) > MOST_MEMBERS:
        raise zipfile.BadZipFile(f"it has more than {MOST_MEMBERS:,} members")
    archive = zipfile.ZipFile(io.BytesIO(content))
    if not {member.compress_type for member in archive.infolist()} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise zipfile.BadZipFile("it is packed by another method than deflate; pack it anew")
    return archive


def read_member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    """A member of at most so many bytes. Raises one of UNZIP_ERRORS, KeyError where there is none of this name."""
    size = archive.getinfo(name).file_size  # of what is unpacked; without it zipfile would unpack 2 GB in one piece
    if size > largest:
        raise zipfile.BadZipFile(f"{name} has more than {largest:,} bytes")
    with archive.open(name) as member:
        return member.read(size)
