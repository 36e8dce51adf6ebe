"""A VBoxManage without VirtualBox: an executable with a memory, for tests and for trying things.

`python -m server_manager.drivers.virtualbox.fake COMMAND …` with LABCTL_FAKE_VIRTUALBOX naming a
folder. Its machines are settings files, disks and logs on this machine's real file system; they
are on and off, but nothing runs in them. What it prints is what VirtualBox 7.2.22 printed, its
silent failures among it; what goes wrong otherwise is planned in a file (`faults`).
"""
