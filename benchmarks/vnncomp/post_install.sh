#!/bin/bash
# VNN-COMP: steps after the installation that need a licence or a key. There are none.
exit 0
