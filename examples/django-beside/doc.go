// Package beside holds the test of app.py, a synchronous web app in Python, beside the program examples/standalone. See README.md.
package beside
