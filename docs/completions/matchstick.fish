# Fish completion for matchstick. Put it into ~/.config/fish/completions/.

# Who takes part in a race.
function __matchstick_subjects
    printf '%s\n' process vm-inproc vm vm-restore vm-exec vm-clone vm-pool namespaces unshare bwrap runc crun youki podman podman-vm docker ctr ctr-vm nspawn vm-linux
end

# No command yet.
function __matchstick_first
    test (count (commandline -opc)) -eq 1
end

# In the command $argv[1], and not among the guest's own arguments.
function __matchstick_in
    set -l words (commandline -opc)
    test (count $words) -gt 1; and test "$words[2]" = $argv[1]; and not contains -- -- $words
end

# In a command that starts a guest.
function __matchstick_starts
    __matchstick_in run; or __matchstick_in trace; or __matchstick_in snapshot
end

# The same, and neither a guest nor a path is there yet.
function __matchstick_wants_target
    __matchstick_starts; or return
    set -l skip no
    for word in (commandline -opc)[3..]
        if test $skip = yes
            set skip no
            continue
        end
        switch $word
            case -k '-k*' --kernel '--kernel=*'
                return 1
            case -i --initrd --initramfs --init --rootfs --disk -p --cmdline --cmdline-only -c --cpus -m --memory --boot --timeout --max-output --sandbox -o --output --at --chrome --html --gdb
                set skip yes
            case '-*'
            case '*'
                return 1
        end
    end
end

# `matchstick guests` prints a name, spaces, and a line about it.
function __matchstick_guests
    set -l program (commandline -opc)[1]
    $program guests 2>/dev/null | string replace -r ' +' \t
end

# `matchstick explain` and `matchstick lab` print a topic, spaces, and its title.
function __matchstick_lessons
    set -l program (commandline -opc)[1]
    $program $argv[1] 2>/dev/null | string replace -r ' +' \t
end

complete -c matchstick -f

complete -c matchstick -n __matchstick_first -a run -d 'Start a guest of the gallery, or any image'
complete -c matchstick -n __matchstick_first -a exec -d 'Run a Linux program in a VM, without Linux in it'
complete -c matchstick -n __matchstick_first -a oci -d 'An OCI runtime: containers whose programs run in VMs'
complete -c matchstick -n __matchstick_first -a run-image -d 'Run a container image\'s program in a VM'
complete -c matchstick -n __matchstick_first -a images -d 'List unpacked images and kept layers, or remove them'
complete -c matchstick -n __matchstick_first -a trace -d 'Start a guest, and tell every call and every exit'
complete -c matchstick -n __matchstick_first -a snapshot -d 'Run a guest to a point, and keep it as a golden image'
complete -c matchstick -n __matchstick_first -a clone -d 'Start many machines from a golden image, and measure'
complete -c matchstick -n __matchstick_first -a diff -d 'How far a machine has gone from its golden image'
complete -c matchstick -n __matchstick_first -a guests -d 'List the gallery'
complete -c matchstick -n __matchstick_first -a explain -d 'A lesson, with the figures of this machine'
complete -c matchstick -n __matchstick_first -a lab -d 'A lesson whose commands are run as you read'
complete -c matchstick -n __matchstick_first -a host -d 'What is under us, and what is missing'
complete -c matchstick -n __matchstick_first -a bench -d 'Race a VM against a process and containers'
complete -c matchstick -n __matchstick_first -a help -d 'Explain a command'
complete -c matchstick -n __matchstick_first -s h -l help -d 'Show help'
complete -c matchstick -n __matchstick_first -s V -l version -d 'Show the version'

complete -c matchstick -n '__matchstick_in help' -a 'run exec oci run-image images trace snapshot clone diff guests host bench explain lab help'
complete -c matchstick -n '__matchstick_in guests' -s h -l help -d 'Show help'
complete -c matchstick -n '__matchstick_in explain' -a '(__matchstick_lessons explain)'
complete -c matchstick -n '__matchstick_in explain' -s l -l lang -x -a 'en ko' -d 'Language of the lessons'
complete -c matchstick -n '__matchstick_in explain' -s h -l help -d 'Show help'
complete -c matchstick -n '__matchstick_in lab' -a '(__matchstick_lessons lab)'
complete -c matchstick -n '__matchstick_in lab' -s n -l dry-run -d 'Show the text and the commands, run nothing'
complete -c matchstick -n '__matchstick_in lab' -s l -l lang -x -a 'en ko' -d 'Language of the labs'
complete -c matchstick -n '__matchstick_in lab' -s h -l help -d 'Show help'
complete -c matchstick -n '__matchstick_in host' -l json -d 'The same as JSON'
complete -c matchstick -n '__matchstick_in host' -s h -l help -d 'Show help'

complete -c matchstick -n '__matchstick_in bench' -f -a 'isolation' -d 'What a program sees of the host'
complete -c matchstick -n '__matchstick_in bench' -f -a 'memory' -d 'What one more idle instance costs'
complete -c matchstick -n '__matchstick_in bench' -f -a 'parallel' -d 'How many start in a second'
complete -c matchstick -n '__matchstick_in bench' -s r -l runs -x -d 'So many rounds'
complete -c matchstick -n '__matchstick_in bench' -s t -l time -x -d 'Rounds until that time is over'
complete -c matchstick -n '__matchstick_in bench' -s w -l warmup -x -d 'Rounds before, which do not count'
complete -c matchstick -n '__matchstick_in bench' -l only -x -a '(__fish_complete_list , __matchstick_subjects)' -d 'Race these subjects'
complete -c matchstick -n '__matchstick_in bench' -l skip -x -a '(__fish_complete_list , __matchstick_subjects)' -d 'Race all but these'
complete -c matchstick -n '__matchstick_in bench' -l with -x -d 'Race a command of yours as well'
complete -c matchstick -n '__matchstick_in bench' -l reference -x -a '(__matchstick_subjects)' -d 'What ratios refer to'
complete -c matchstick -n '__matchstick_in bench' -l payload -rF -a 'hello primes' -d 'What is run'
complete -c matchstick -n '__matchstick_in bench' -l seed -x -d 'Decides the order'
complete -c matchstick -n '__matchstick_in bench' -l pin -x -d 'Bind everything to one CPU'
complete -c matchstick -n '__matchstick_in bench' -l cold -d 'Then some starts with an empty page cache'
complete -c matchstick -n '__matchstick_in bench' -l limit -x -d 'A start that takes longer has failed'
complete -c matchstick -n '__matchstick_in bench' -l compare -rF -d 'Hold it against an older race'
complete -c matchstick -n '__matchstick_in bench' -l export-json -rF -d 'Every sample and the machine'
complete -c matchstick -n '__matchstick_in bench' -l export-csv -rF -d 'A line for each subject'
complete -c matchstick -n '__matchstick_in bench' -l export-markdown -rF -d 'The table for a README'
complete -c matchstick -n '__matchstick_in bench' -l export-html -rF -d 'A page with plots'
complete -c matchstick -n '__matchstick_in bench' -l export-svg -rF -d 'A picture'
complete -c matchstick -n '__matchstick_in bench' -s h -l help -d 'Show help'

complete -c matchstick -n __matchstick_wants_target -F -a '(__matchstick_guests)'
complete -c matchstick -n __matchstick_starts -s k -l kernel -rF -d 'The image to start'
complete -c matchstick -n __matchstick_starts -s i -l initrd -rF -d 'A module or initial RAM disk for it'
complete -c matchstick -n __matchstick_starts -l initramfs -rF -d 'The same as initrd'
complete -c matchstick -n __matchstick_starts -l init -rF -d 'Linux: run this static program'
complete -c matchstick -n __matchstick_starts -l rootfs -x -a '(__fish_complete_directories)' -d 'Linux: a copy of this directory is its root'
complete -c matchstick -n __matchstick_starts -l disk -rF -d 'Linux: a disk, read only with ,ro'
complete -c matchstick -n __matchstick_starts -s p -l cmdline -x -d 'The kernel\'s command line'
complete -c matchstick -n __matchstick_starts -l cmdline-only -x -d 'The same, and Linux gets no default'
complete -c matchstick -n __matchstick_starts -s c -l cpus -x -d 'Number of CPUs'
complete -c matchstick -n __matchstick_starts -s m -l memory -x -d 'Memory: MiB, or with K, M, G, T'
complete -c matchstick -n __matchstick_starts -l boot -x -d 'Boot protocol' \
    -a 'auto\t"From the image" flat16\t"A boot sector" flat64\t"Code without a header" elf\tELF64 multiboot\t"Multiboot 1" pvh\t"ELF with a PVH note" linux\t"Linux bzImage"'
complete -c matchstick -n __matchstick_starts -l timeout -x -d 'End the guest after that time'
complete -c matchstick -n __matchstick_starts -l max-output -x -d 'End the guest when it has written more'
complete -c matchstick -n '__matchstick_in run; or __matchstick_in trace' -l sandbox -x -a 'strict off' -d 'Confine this process'
complete -c matchstick -n '__matchstick_in run' -l timings -d 'Show each phase from exec to teardown'
complete -c matchstick -n __matchstick_starts -s q -l quiet -d 'No remarks; a crash in one line'
complete -c matchstick -n __matchstick_starts -s v -l verbose -d 'Say what is started and how it ended'
complete -c matchstick -n __matchstick_starts -s h -l help -d 'Show help'

complete -c matchstick -n '__matchstick_in trace' -s o -l output -rF -d 'Where the story goes, instead of stderr'
complete -c matchstick -n '__matchstick_in trace' -l json -d 'The story as JSON, one event a line'
complete -c matchstick -n '__matchstick_in trace' -l chrome -rF -d 'A file for Perfetto and chrome://tracing as well'
complete -c matchstick -n '__matchstick_in trace' -l html -rF -d 'A page with a timeline to zoom as well'
complete -c matchstick -n '__matchstick_in trace' -l gdb -x -d 'Wait for gdb at a port or unix:PATH'
complete -c matchstick -n '__matchstick_in trace' -l step -d 'Tell each instruction and what it changed'

complete -c matchstick -n '__matchstick_in snapshot' -s o -l output -rF -d 'The golden image to write'
complete -c matchstick -n '__matchstick_in snapshot' -l at -x -a 'ready post: exit:' -d 'When to stop'
complete -c matchstick -n '__matchstick_in clone' -F
complete -c matchstick -n '__matchstick_in clone' -s n -l clones -x -d 'How many'
complete -c matchstick -n '__matchstick_in clone' -s j -l parallel -x -d 'So many threads start them'
complete -c matchstick -n '__matchstick_in clone' -s c -l cpus -x -d 'Most CPUs that each may have'
complete -c matchstick -n '__matchstick_in clone' -s m -l memory -x -d 'Most memory that each may have'
complete -c matchstick -n '__matchstick_in clone' -l timeout -x -d 'How long each may take to its first byte'
complete -c matchstick -n '__matchstick_in clone' -s h -l help -d 'Show help'
complete -c matchstick -n '__matchstick_in diff' -F -a pid: -d 'The machine of process N'
complete -c matchstick -n '__matchstick_in diff' -s h -l help -d 'Show help'

complete -c matchstick -n '__matchstick_in exec' -a '(__fish_complete_subcommand --fcs-skip=2)'
complete -c matchstick -n '__matchstick_in exec' -l root -x -a '(__fish_complete_directories)' -d 'The program\'s root directory'
complete -c matchstick -n '__matchstick_in exec' -l write -rF -d 'It may change what is there'
complete -c matchstick -n '__matchstick_in exec' -l tmp -d 'A /tmp of its own, thrown away at the end'
complete -c matchstick -n '__matchstick_in exec' -l net -d 'It may use the network'
complete -c matchstick -n '__matchstick_in exec' -l contained -d 'A container is the wall'
complete -c matchstick -n '__matchstick_in exec' -l keep-fd -x -d 'An open file that it gets as well'
complete -c matchstick -n '__matchstick_in exec' -s m -l memory -x -d 'Limit on memory of each process'
complete -c matchstick -n '__matchstick_in exec' -l timeout -x -d 'End it, and all that it started, after this time'
complete -c matchstick -n '__matchstick_in exec' -l max-output -x -d 'End it when it has written more than this'
complete -c matchstick -n '__matchstick_in exec' -l max-processes -x -d 'Limit on processes at one time'
complete -c matchstick -n '__matchstick_in exec' -s c -l cpus -x -d 'How many processors it may use'
complete -c matchstick -n '__matchstick_in exec' -l env -x -d 'Set a variable of its environment'
complete -c matchstick -n '__matchstick_in exec' -l clear-env -d 'Begin with an empty environment'
complete -c matchstick -n '__matchstick_in exec' -l sandbox -x -a 'strict off' -d 'Have the kernel keep that, too'
complete -c matchstick -n '__matchstick_in exec' -l gdb -x -d 'Wait for gdb at a port or unix:path'
complete -c matchstick -n '__matchstick_in exec' -l timings -d 'Show each phase from exec to reaped'
complete -c matchstick -n '__matchstick_in trace' -a exec -d 'A Linux program instead of a guest'
complete -c matchstick -n '__matchstick_in exec' -s v -l verbose -d 'Name each system call that is not served'
complete -c matchstick -n '__matchstick_in exec' -s h -l help -d 'Show help'

complete -c matchstick -n '__matchstick_in oci' -l podman -d 'install: podman is to know this runtime'
complete -c matchstick -n '__matchstick_in oci' -l docker -d 'install: docker is to know it'
complete -c matchstick -n '__matchstick_in oci' -l containerd -d 'install: containerd is to know it'
complete -c matchstick -n '__matchstick_in oci' -l kubernetes -d 'install: print a RuntimeClass'
complete -c matchstick -n '__matchstick_in oci' -l dry-run -d 'install: write nothing'
complete -c matchstick -n '__matchstick_in oci' -a 'install create start run exec state kill delete pause resume ps update list features'
complete -c matchstick -n '__matchstick_in oci' -s h -l help -d 'Show help'

complete -c matchstick -n '__matchstick_in run-image' -F
complete -c matchstick -n '__matchstick_in run-image' -l tag -x -d 'Which image, where there are several'
complete -c matchstick -n '__matchstick_in run-image' -l keep -x -d 'Keep what it writes under a name'
complete -c matchstick -n '__matchstick_in run-image' -l net -d 'It may use the network'
complete -c matchstick -n '__matchstick_in run-image' -l env -x -d 'Set a variable of its environment'
complete -c matchstick -n '__matchstick_in run-image' -l user -x -d 'Run as a user of the image'
complete -c matchstick -n '__matchstick_in run-image' -l entrypoint -x -d 'Run this program of the image'
complete -c matchstick -n '__matchstick_in run-image' -l copy -d 'Copy the files instead of mounting them'
complete -c matchstick -n '__matchstick_in run-image' -l max-size -x -d 'Refuse an image that unpacks to more'
complete -c matchstick -n '__matchstick_in run-image' -l sandbox -x -a 'strict off' -d 'Have the kernel keep that, too'
complete -c matchstick -n '__matchstick_in run-image' -s v -l verbose -d 'Name each system call that is not served'
complete -c matchstick -n '__matchstick_in run-image' -s h -l help -d 'Show help'

complete -c matchstick -n '__matchstick_in images' -l changes -x -d 'Show what was written to a layer'
complete -c matchstick -n '__matchstick_in images' -l remove -x -d 'Remove a layer or an image'
complete -c matchstick -n '__matchstick_in images' -l prune -d 'Remove every image that no program runs from'
complete -c matchstick -n '__matchstick_in images' -s h -l help -d 'Show help'
