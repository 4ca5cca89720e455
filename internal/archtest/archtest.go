// Package archtest holds the tests that keep the import rules true. It has nothing else in it.
package archtest
