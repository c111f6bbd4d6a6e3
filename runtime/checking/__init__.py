"""Files that operators write (policies, detectors), checked so that every mistake is named at once, with its line.

tree.py      YAML or JSON as nodes that know their line
checker.py   walks them and notes what is wrong
"""
