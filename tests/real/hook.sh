# A commit, whose hooks look at it and change its message.
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
git init -q -b main .
mkdir -p .git/hooks
cat > .git/hooks/pre-commit <<'END'
#!/bin/sh
git diff --cached --name-only | grep -v '^bad' > /dev/null || exit 1
echo "checked" >&2
END
cat > .git/hooks/commit-msg <<'END'
#!/bin/sh
echo "seen by a hook" >> "$1"
END
chmod +x .git/hooks/*
echo text > file
git add file
git commit -q -m first
git log -1 --format=%B
echo text > bad
git add bad
git commit -q -m second || echo "refused: $?"
