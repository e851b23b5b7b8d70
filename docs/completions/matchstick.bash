# Bash completion for matchstick. Source it, or put it where bash-completion looks:
# ~/.local/share/bash-completion/completions/matchstick

_matchstick() {
    local command=$1 cur=${COMP_WORDS[COMP_CWORD]} word i
    local prev='' subcommand='' target='' ended='' skip='' tracing=''
    local subjects='process vm-inproc vm vm-restore vm-exec vm-clone vm-pool namespaces unshare bwrap runc crun youki podman podman-vm docker ctr ctr-vm nspawn vm-linux'
    COMPREPLY=()

    # What stands before the cursor. Bash splits `--boot=elf` into three words, at the `=`.
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == = ]]; then
            skip=1
            continue
        fi
        prev=$word
        if [[ -n $skip ]]; then
            skip=
            prev=
        elif [[ -z $subcommand ]]; then
            subcommand=$word
        elif [[ $word == -- || $subcommand == @(exec|run-image) && -n $target ]]; then
            ended=1
            break
        else
            case $word in
                -k | --kernel) target=1 skip=1 ;;
                -i | --initrd | --initramfs | -p | --cmdline | --cmdline-only | -c | --cpus | -m | --memory) skip=1 ;;
                -o | --output | --at | --chrome | --html | --gdb) skip=1 ;;
                --init | --rootfs | --disk | --boot | --timeout | --max-output | --sandbox | --root | --write | --env) skip=1 ;;
                --tag | --keep | --user | --entrypoint | --max-size | --changes | --remove) skip=1 ;;
                -*) ;;
                # `trace exec` is `exec` with the options of a trace.
                exec)
                    if [[ $subcommand == trace && -z $target ]]; then
                        subcommand=exec tracing=1
                    else
                        target=1
                    fi
                    ;;
                *) target=1 ;;
            esac
        fi
    done
    if [[ $cur == = ]]; then
        cur=
    fi

    case $subcommand in
        '') _matchstick_words 'run exec oci run-image images trace snapshot clone diff guests host bench explain lab help -h --help -V --version' ;;
        help) [[ $prev != help ]] || _matchstick_words 'run exec oci run-image images trace snapshot clone diff guests host bench explain lab help' ;;
        guests) _matchstick_words '-h --help' ;;
        host) _matchstick_words '--json -h --help' ;;
        explain)
            case $prev in
                -l | --lang) _matchstick_words 'en ko' ;;
                *) _matchstick_words "$("$command" explain 2>/dev/null | cut -d ' ' -f 1) -l --lang -h --help" ;;
            esac
            ;;
        lab)
            case $prev in
                -l | --lang) _matchstick_words 'en ko' ;;
                *) _matchstick_words "$("$command" lab 2>/dev/null | cut -d ' ' -f 1) -n --dry-run -l --lang -h --help" ;;
            esac
            ;;
        bench)
            case $prev in
                --compare | --export-json | --export-csv | --export-markdown | --export-html | --export-svg) _matchstick_files ;;
                --payload)
                    _matchstick_words 'hello primes'
                    _matchstick_files
                    ;;
                --only | --skip) _matchstick_list "$subjects" ;;
                --reference) _matchstick_words "$subjects" ;;
                -r | --runs | -t | --time | -w | --warmup | --with | --seed | --pin | --limit) ;;
                *)
                    _matchstick_words '-r --runs -t --time -w --warmup --only --skip --with --reference --payload
                        --seed --pin --cold --limit --compare --export-json --export-csv --export-markdown
                        --export-html --export-svg -h --help isolation memory parallel'
                    ;;
            esac
            ;;
        clone)
            case $prev in
                -n | --clones | -j | --parallel | -c | --cpus | -m | --memory | --timeout) ;;
                *)
                    _matchstick_words '-n --clones -j --parallel -c --cpus -m --memory --timeout -h --help'
                    _matchstick_files
                    ;;
            esac
            ;;
        images)
            case $prev in
                --changes | --remove) ;;
                *) _matchstick_words '--changes --remove --prune -h --help' ;;
            esac
            ;;
        run-image)
            case $prev in
                --sandbox) _matchstick_words 'strict off' ;;
                --tag | --keep | --env | --user | --entrypoint | --max-size) ;;
                *)
                    [[ -n $ended || -n $target ]] || _matchstick_words '--tag --keep --net --env --user --entrypoint
                        --copy --max-size --sandbox -v --verbose -h --help'
                    _matchstick_files
                    ;;
            esac
            ;;
        exec)
            # The program's own arguments: often files.
            if [[ -n $ended || -n $target ]]; then
                _matchstick_files
                return 0
            fi
            case $prev in
                --root | --write | -o | --output | --chrome | --html) _matchstick_files ;;
                --sandbox) _matchstick_words 'strict off' ;;
                --env | --gdb | --keep-fd | -m | --memory | --timeout | --max-output | --max-processes | -c | --cpus) ;;
                *)
                    if [[ $cur == -* ]]; then
                        _matchstick_words '--root --write --tmp --net --contained --keep-fd -m --memory --timeout --max-output --max-processes -c --cpus --env --clear-env --sandbox -v --verbose -h --help'
                        if [[ -n $tracing ]]; then
                            _matchstick_words '-o --output --json --chrome --html'
                        else
                            _matchstick_words '--gdb --timings'
                        fi
                    else
                        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -c -- "$cur")
                        _matchstick_files
                    fi
                    ;;
            esac
            ;;
        oci)
            case $prev in
                oci) _matchstick_words 'install create start run exec state kill delete pause resume ps update list features -h --help' ;;
                *)
                    if [[ " ${COMP_WORDS[*]} " == *' install '* ]]; then
                        _matchstick_words '--podman --docker --containerd --kubernetes --dry-run -h --help'
                    else
                        _matchstick_files
                    fi
                    ;;
            esac
            ;;
        diff)
            _matchstick_words 'pid: -h --help'
            _matchstick_files
            ;;
        run | trace | snapshot)
            # The guest's own arguments: nobody knows them but the guest.
            [[ -z $ended ]] || return 0
            case $prev in
                -k | --kernel | -i | --initrd | --initramfs | --init | --rootfs | --disk | -o | --output | --chrome | --html)
                    _matchstick_files
                    ;;
                --boot) _matchstick_words 'auto flat16 flat64 elf multiboot pvh linux' ;;
                --sandbox) _matchstick_words 'strict off' ;;
                --at) _matchstick_words 'ready post: exit:' ;;
                -p | --cmdline | --cmdline-only | -c | --cpus | -m | --memory | --gdb | --timeout | --max-output) ;;
                *)
                    if [[ $cur == -* ]]; then
                        [[ $subcommand != trace ]] || _matchstick_words '-o --output --json --chrome --html --step --gdb'
                        [[ $subcommand != snapshot ]] || _matchstick_words '-o --output --at'
                        _matchstick_words '-k --kernel -i --initrd --initramfs --init --rootfs --disk -p --cmdline --cmdline-only
                            -c --cpus -m --memory --boot --timeout --max-output -q --quiet -v --verbose -h --help'
                        [[ $subcommand == snapshot ]] || _matchstick_words '--sandbox'
                        [[ $subcommand != run ]] || _matchstick_words '--timings'
                    elif [[ -z $target ]]; then
                        _matchstick_words "$("$command" guests 2>/dev/null | cut -d ' ' -f 1)"
                        [[ $subcommand != trace ]] || _matchstick_words exec
                        _matchstick_files
                    fi
                    ;;
            esac
            ;;
    esac
}

# Adds those of the words in $1 that begin as the caller's `cur` does.
_matchstick_words() {
    local word
    for word in $1; do
        [[ $word != "$cur"* ]] || COMPREPLY+=("$word")
    done
}

# Adds those of the words in $1 that go on with the list in the caller's `cur`, and are not in it yet.
_matchstick_list() {
    local word before=''
    [[ $cur != *,* ]] || before=${cur%,*},
    # There may be one more.
    compopt -o nospace 2>/dev/null
    for word in $1; do
        [[ ,$before == *,"$word",* || $before$word != "$cur"* ]] || COMPREPLY+=("$before$word")
    done
}

# Adds files.
_matchstick_files() {
    local file
    # Readline then quotes what needs it, and puts a slash behind a directory.
    compopt -o filenames 2>/dev/null
    while IFS= read -r file; do
        COMPREPLY+=("$file")
    done < <(compgen -f -- "$cur")
}

complete -F _matchstick matchstick
