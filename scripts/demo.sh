#!/usr/bin/env bash
# The whole path on lab hosts: start them, build lighttpd and PCRE on each, sweep over ssh, write the report.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s (%d s since the start)\n' "$1" "$SECONDS"; }

step "Lab hosts"
python -m lab up

step "Provision: PCRE and lighttpd from source on each lab host"
ansible-playbook provision.yml -i inventory --limit lab

step "Sweep: experiments/quick.yml over ssh"
# Exit status 1 means that some trials failed: they are in the report with their reasons.
fcgi-sweep run experiments/quick.yml || [ $? -eq 1 ]

step "Report"
python -m analysis.report

step "Done"
echo "The lab stays up: try 'fcgi-sweep status', 'fcgi-sweep doctor'; 'make lab-down' removes it."
