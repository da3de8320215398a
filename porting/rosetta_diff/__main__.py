from rosetta_diff.commands import main

main()
