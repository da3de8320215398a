from pathlib import Path

PORTING = Path(__file__).resolve().parents[2]
PORTS = PORTING / "ports"  # the worked ports
