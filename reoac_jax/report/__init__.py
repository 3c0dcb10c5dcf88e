"""The report of one or several runs: a page, its pictures and their numbers.

runs, evaluations   what is read, and what was found damaged
traces              an episode, compact, for the page's viewer
theme, picture      colours, and what a picture is made of
curves, operator_use, critic, comparison, relation_map, projection     the pictures
page                index.html
__main__            the command line
"""

import logging

# Without a home folder matplotlib lists the fonts anew, and says so in two long lines.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
